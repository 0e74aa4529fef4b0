"""`./run.sh watch`: what runs are doing, in the terminal and on the board that is served on this machine."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline.__main__ import main
from pipeline.commands.serve import HOST, make_server
from pipeline.commands.watch import state_lines
from pipeline.paths import PROJECT, Folders, RunPaths
from pipeline.report.live import Live
from tests.report.browser import BROWSER, needs_browser
from tests.report.conftest import new_run  # noqa: F401 - a fixture
from tests.report.small_run import make_history, mark_stages, metrics_of, write_csv, write_evaluated
from tests.report.test_live import held

LIMIT_S = 60  # for a process that must answer


@pytest.fixture
def runs(new_run) -> dict[str, Path]:  # noqa: F811
    """A finished run with a report, and one that has begun to train."""
    _, done = new_run("ExpAAB")
    write_evaluated(done)
    write_csv(done / "history.csv", *make_history())
    (done / "report.html").write_text("<!doctype html><title>the report</title>")
    mark_stages(done, train=100.0, evaluate=4.0)
    _, begun = new_run("ExpAAC")
    head, rows = make_history(3, 0)
    write_csv(begun / "history.csv", head, rows)
    (begun / ".stages" / "train.begun.json").write_text(
        json.dumps({"seconds": 0.0, "settings": {"SOLVER.PLAN": [{"epochs": 9}]}})
    )
    return {"ExpAAB": done, "ExpAAC": begun}


class Watching:
    """`./run.sh watch ...` as a process whose lines are read as they come."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "pipeline", "watch", *arguments]
        # Unbuffered by its own doing, not by the environment's.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        self.process = subprocess.Popen(
            command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def line(self) -> str:
        timer = threading.Timer(LIMIT_S, self.process.kill)
        timer.start()
        try:
            return self.process.stdout.readline().rstrip()
        finally:
            timer.cancel()

    def end(self) -> tuple[int, str, str]:
        """Presses Ctrl-C; returns exit code, the rest of the lines, and what was printed as an error."""
        self.process.send_signal(signal.SIGINT)
        out, error = self.process.communicate(timeout=LIMIT_S)
        return self.process.returncode, out, error


@pytest.fixture
def watch() -> Iterator[Callable[..., Watching]]:
    """`watch("ExpAAB")`: the command as a process, which ends with the test at the latest."""
    started: list[Watching] = []

    def start(*arguments: str) -> Watching:
        started.append(Watching(*arguments))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.communicate()


def test_plain_lines_of_what_is_new_until_ctrl_c(runs, watch):
    with held(Folders.from_environment().run("ExpAAC")):
        watching = watch()
        first, second = watching.line(), watching.line()
        assert re.fullmatch(r"\d\d:\d\d:\d\d ExpAAC  \* train  epoch 3/9  Dice 0.450  best 0.450", first)
        assert re.fullmatch(r"\d\d:\d\d:\d\d ExpAAB  evaluated  epoch 8  Dice 0.680  best 0.680", second)
        head, rows = make_history(4, 0)
        write_csv(runs["ExpAAC"] / "history.csv", head, rows)
        assert "ExpAAC  * train  epoch 4/9" in watching.line(), "and not ExpAAB, where nothing is new"
    code, _, error = watching.end()
    assert (code, error) == (0, "")


def test_it_ends_when_nobody_reads_its_lines_any_more(runs, watch):
    watching = watch()
    assert watching.line()
    watching.process.stdout.close()  # `./run.sh watch | head -1`
    assert watching.process.wait(LIMIT_S) == 0 and watching.process.stderr.read() == ""


def test_only_the_named_runs_are_shown(runs, watch):
    watching = watch("ExpAAC")
    assert "ExpAAC  stopped in train" in watching.line()
    code, rest, _ = watching.end()
    assert code == 0 and "ExpAAB" not in rest


def test_before_the_first_run_it_waits(watch):
    watching = watch()
    assert watching.line().startswith("There are no runs in ")
    assert watching.end()[0] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ExpAAZ"], "there is no run 'ExpAAZ'"),
        (["Exp?"], "no run matches 'Exp?'"),
        (["ExpAAB", "--serve"], "--serve shows all runs; leave out ExpAAB"),
        (["--serve", "99999"], "cannot serve on port 99999: expected a number from 0 to 65535"),
        (["--serve", "many"], "invalid int value"),
    ],
)
def test_what_cannot_be_watched_is_refused(runs, capsys, words, message):
    assert main(["watch", *words]) == 2
    assert message in capsys.readouterr().err


def test_the_table_fits_the_terminal_and_leaves_out_what_is_not_known():
    training = Live("ExpAAB", True, "train", 3, 10, 0.5, 0.6, "Dice", 65.0, 600.0, 300.0)
    lines = state_lines([training, Live("CamVidAAA", stage="prepared")], 100)
    assert lines == [
        "run        stage     epoch  score       best   time       left",
        "ExpAAB     * train   3/10   Dice 0.500  0.600  1 min 5 s  10 min 0 s  no new epoch for 5 min 0 s",
        "CamVidAAA  prepared",
    ]
    assert max(map(len, state_lines([training], 30))) == 30
    assert state_lines([Live("CamVidAAA", stage="prepared")], 30)[0].split() == ["run", "stage"]


@pytest.fixture
def server(runs) -> Iterator[ThreadingHTTPServer]:
    """A server over the runs."""
    with make_server(Folders.from_environment(), 0) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def port(server) -> int:
    return server.server_address[1]


def get(port: int, address: str, host: str | None = None, method: str = "GET") -> tuple[int, str, dict[str, str]]:
    """Returns status, content and headers of an answer; the address is sent as it is written."""
    connection = http.client.HTTPConnection(HOST, port, timeout=LIMIT_S)
    connection.putrequest(method, address, skip_host=True)
    connection.putheader("Host", host if host is not None else f"{HOST}:{port}")
    connection.endheaders()
    answer = connection.getresponse()
    content = answer.read().decode()
    connection.close()
    return answer.status, content, dict(answer.getheaders())


def test_the_page_and_the_reports_that_it_links_to_are_served(port):
    status, page, headers = get(port, "/")
    assert status == 200 and "ExpAAC" in page and headers["Content-Type"].startswith("text/html")
    assert "connect-src" in page and headers["Cache-Control"] == "no-store"
    assert get(port, "/index.html")[1] == page and get(port, "/?again")[1] == page
    assert "the report" in get(port, "/ExpAAB/report.html")[1]
    status, content, headers = get(port, "/ExpAAB/report.html", method="HEAD")
    assert (status, content) == (200, "") and int(headers["Content-Length"]) > 20


@pytest.mark.parametrize(
    "address",
    [
        *("/ExpAAB", "/ExpAAB/", "/ExpAAB/metrics.json", "/ExpAAB/config.yaml", "/ExpAAC/report.html", "/.stages"),
        *("/ExpAAB/../ExpAAB/report.html", "/../submissions/log.csv", "/%2e%2e/secret.txt", "//etc/passwd", "/..%2f"),
        *(
            "/ExpAAB/./report.html",
            "/ExpAAB%2Freport.html",
            "/ExpAAB/report.html%00",
            "/ExpAAB\\report.html",
            "/favicon.ico",
        ),
        *(
            "/ExpAAB/panels",
            "/ExpAAB/panels/",
            "/ExpAAB/panels/../metrics.json",
            "/ExpAAB/.stages/lock",
            "/ExpAAB//x.webp",
        ),
        *(
            "/ExpAAB/panels/secret.txt",
            "/ExpAAB/panels/link.webp",
            "/ExpAAC/panels/own.webp",
            "/ExpAAB/../ExpAAB/panels/own.webp",
        ),
    ],
)
def test_nothing_else_is_served(runs, port, address):
    secret = runs["ExpAAB"].parent.parent / "secret.txt"
    secret.write_text("secret")
    (runs["ExpAAB"] / "panels" / "secret.txt").write_text("secret")
    (runs["ExpAAB"] / "panels" / "link.webp").symlink_to(secret)
    (runs["ExpAAC"] / "panels" / "own.webp").write_text("an image")
    (runs["ExpAAB"] / "panels" / "own.webp").write_text("an image")
    status, content, _ = get(port, address)
    assert status == 404 and "secret" not in content and "<li>" not in content
    assert get(port, "/ExpAAB/panels/own.webp")[:2] == (200, "an image"), "which its report may show"


def test_a_report_that_leads_out_of_its_folder_is_not_served(runs, port):
    secret = runs["ExpAAB"].parent / "secret.html"
    secret.write_text("secret")
    (runs["ExpAAB"] / "report.html").unlink()
    (runs["ExpAAB"] / "report.html").symlink_to(secret)
    assert get(port, "/ExpAAB/report.html")[0] == 404


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "", "0.0.0.0", "localhost.evil.example"])
def test_a_request_by_another_name_is_refused(port, host):
    for address in ("/", "/version", "/ExpAAB/report.html"):
        status, content, _ = get(port, address, host)
        assert status == 403 and "ExpAAB" not in content
    assert get(port, "/version", f"localhost:{port}")[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_written(port, method):
    assert get(port, "/", method=method)[0] == 501


def test_it_listens_on_this_machine_alone(port):
    others = {entry[4][0] for entry in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {HOST}
    for address in others:
        with pytest.raises(OSError):
            socket.create_connection((address, port), timeout=2)


def test_the_page_is_made_anew_when_a_run_has_changed(runs, port):
    before, version = get(port, "/")[1], get(port, "/version")[1]
    assert f'data-version="{version}"' in before and get(port, "/version")[1] == version
    assert get(port, "/")[1] is not None and get(port, "/version")[1] == version, "asking changes nothing"
    (runs["ExpAAB"] / "metrics.json").write_text(json.dumps(metrics_of(dice=(0.111,) * 4)))
    assert get(port, "/version")[1] != version
    assert "0.111" in get(port, "/")[1] and "0.111" not in before


def test_a_new_run_and_a_removed_one_change_the_version(runs, port):
    seen = {get(port, "/version")[1]}
    (runs["ExpAAC"] / "history.csv").unlink()
    seen.add(get(port, "/version")[1])
    runs["ExpAAC"].rename(runs["ExpAAC"].with_name("Renamed"))
    seen.add(get(port, "/version")[1])
    (runs["ExpAAB"] / ".stages" / "predict.json").write_text("{}")
    seen.add(get(port, "/version")[1])
    assert len(seen) == 4


def test_the_version_changes_when_a_run_is_killed(runs, port):
    with held(RunPaths(runs["ExpAAB"], runs["ExpAAB"])):
        get(port, "/")
        during = get(port, "/version")[1]
        assert get(port, "/version")[1] == during
    assert get(port, "/version")[1] != during, "its files are the same"


def test_a_browser_that_leaves_is_no_traceback(runs, port, capfd):
    (runs["ExpAAB"] / "report.html").write_text("x" * 20_000_000)
    get(port, "/")
    with socket.create_connection((HOST, port)) as browser:
        browser.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close by a reset
        browser.sendall(f"GET /ExpAAB/report.html HTTP/1.0\r\nHost: {HOST}:{port}\r\n\r\n".encode())
        browser.recv(100)
    assert get(port, "/version")[0] == 200
    time.sleep(0.5)
    assert "Traceback" not in capfd.readouterr().err


def test_a_port_in_use_is_refused(runs, port, capsys):
    assert main(["watch", "--serve", str(port)]) == 2
    message = capsys.readouterr().err
    assert f"cannot serve on port {port}" in message and "type another: ./run.sh watch --serve 0" in message


def test_serving_ends_with_ctrl_c(runs, watch):
    watching = watch("--serve", "0")
    line = watching.line()
    address, number = re.search(r"(http://127\.0\.0\.1:(\d+)/)", line).groups()
    assert address in line and "ExpAAB" in get(int(number), "/")[1]
    code, _, error = watching.end()
    assert (code, error) == (0, "")


@needs_browser
@pytest.mark.slow
def test_an_open_page_loads_itself_anew(runs, server, tmp_path):
    """A run changes as soon as the browser has the page; the time that it waits before asking again is skipped."""
    board = server.RequestHandlerClass.board
    make, given = board.page_now, []

    def page_now() -> bytes:
        given.append(make())
        if len(given) == 1:
            (runs["ExpAAB"] / "metrics.json").write_text(json.dumps(metrics_of(dice=(0.111,) * 4)))
        return given[-1]

    board.page_now = page_now
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--dump-dom", "--virtual-time-budget=10000", "--enable-logging=stderr"]
    command.append(f"http://{HOST}:{server.server_address[1]}/")
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert len(given) >= 2 and b"0.111" not in given[0] and "0.111" in done.stdout
    assert "This page follows the runs." in done.stdout
    assert [line for line in done.stderr.splitlines() if ":CONSOLE" in line] == []
