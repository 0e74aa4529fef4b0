"""The gallery: a small page for many images, whose files are loaded lazily, sorted and opened in a real browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest

from pipeline.report.page import write_page
from tests.report.browser import browsed, needs_browser
from tests.report.small_run import CLASSES, metrics_of, write_csv
from tests.report.test_page import Reader, read
from tests.tiny import run_of


def write_gallery(folder: Path, scores: dict[str, tuple[float | str, float, float | str]]) -> None:
    """Writes the list and the scores of images: mean, share of wrong pixels, and the score of Person."""
    head = ["id", "sequence", "dice", *(f"dice_{name}" for name in CLASSES)]
    rows = [[name, "", mean, 0.9, person, 0.8, ""] for name, (mean, _, person) in scores.items()]
    write_csv(folder / "per_image.csv", head, rows)
    (folder / "metrics.json").write_text(json.dumps(metrics_of() | {"images": len(scores)}))
    (folder / "gallery").mkdir(exist_ok=True)
    listed = [[index, name, wrong, 96, 64] for index, (name, (_, wrong, _)) in enumerate(scores.items())]
    write_csv(folder / "gallery" / "list.csv", ["number", "id", "wrong", "width", "height"], listed)


FEW = {"b": (0.7, 0.01, 0.2), "a": (0.5, 0.02, ""), "d": ("", 0.3, 0.9), "c": (0.9, 0.1, 0.1)}


def names_in(page: str) -> list[str]:
    return re.findall(r"<small>(\w+)</small></span></a>", page)


@pytest.fixture
def page(finished_run, quick_plots) -> Path:
    loaded, folder = finished_run
    write_gallery(folder, FEW)
    return write_page(run_of(loaded))


def test_the_lowest_score_leads_and_an_image_without_one_comes_last(page):
    assert names_in(page.read_text()) == ["a", "b", "c", "d"]
    reader = read(page)
    assert reader.faults == [] and "4 validation images." in reader.words
    assert "0.500 2.0 % a" in reader.words and "– 30.0 % d" in reader.words


def test_every_file_is_beside_the_page_and_loaded_when_it_is_seen(page):
    reader = read(page)
    thumbs = [own for tag, own in reader.elements if tag == "img" and "thumb" in (own.get("src") or "")]
    assert len(thumbs) == 4 and all(own["loading"] == "lazy" for own in thumbs)
    assert all(re.fullmatch(r"gallery/\d{5}_thumb\.webp", own["src"]) for own in thumbs)
    links = [address for address in reader.values("href") if not address.startswith(("#", "data:"))]
    assert len(links) == 4 and all(re.fullmatch(r"gallery/\d{5}\.webp", address) for address in links)


def test_the_policy_allows_files_beside_the_page_and_its_own_script_alone(page):
    text = page.read_text()
    code = re.search(r"<script>(.*)</script>", text, re.DOTALL)[1]
    (policy,) = (own["content"] for _, own in read(page).elements if own.get("http-equiv"))
    allowed = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    wanted = "default-src 'none'; img-src data: 'self' file:; style-src 'unsafe-inline'; script-src "
    assert policy == f"{wanted}'sha256-{allowed}'"


def test_a_page_of_a_thousand_images_stays_small(finished_run, quick_plots):
    loaded, folder = finished_run
    write_gallery(folder, {f"sequence_{index:06d}_left": (index / 1000, 0.1, 0.5) for index in range(1000)})
    path = write_page(run_of(loaded))
    assert path.stat().st_size < 1_000_000
    assert "1,000 validation images." in read(path).words


def test_the_page_says_where_only_the_worst_were_drawn(finished_run, quick_plots):
    loaded, folder = finished_run
    write_gallery(folder, FEW)
    (folder / "metrics.json").write_text(json.dumps(metrics_of() | {"images": 40}))
    assert "4 of 40 validation images, those with most wrong pixels." in read(write_page(run_of(loaded))).words


def test_names_that_look_like_markup_are_text(finished_run, quick_plots):
    loaded, folder = finished_run
    write_gallery(folder, {'<img src=x onerror="alert(1)">': (0.5, 0.1, 0.2)})
    reader = read(write_page(run_of(loaded)))
    assert reader.faults == [] and not reader.values("onerror")


def after(page: Path, code: str, folder: Path) -> str:
    """Returns the page's elements after JavaScript that acts as a user does."""
    text = re.sub(r"<meta http-equiv[^>]*>", "", page.read_text())  # which forbids a second script
    keys = "const press = (key) => document.querySelector('dialog').dispatchEvent(new KeyboardEvent('keydown', {key}));"
    choose = "const choose = (value) => { by.value = value; by.dispatchEvent(new Event('change')); };"
    return browsed(text.replace("</body>", f"<script>{keys}{choose}{code}</script></body>"), folder)


@needs_browser
@pytest.mark.slow
def test_thumbnails_are_sorted_by_what_is_chosen(page, tmp_path):
    assert names_in(after(page, "", tmp_path)) == ["a", "b", "c", "d"]
    assert names_in(after(page, "choose('1')", tmp_path)) == ["d", "c", "a", "b"], "most wrong pixels first"
    assert names_in(after(page, "choose('3')", tmp_path)) == ["c", "b", "d", "a"], "Person, lowest first"
    assert names_in(after(page, "choose('3'); turn.click()", tmp_path)) == ["d", "b", "c", "a"]
    assert names_in(after(page, "choose('-'); turn.click()", tmp_path)) == ["d", "c", "b", "a"]


def dialog_of(text: str) -> tuple[dict[str, str | None], str, set[str], str | None]:
    """Returns the dialog's attributes, the name that it shows, its image files and which view is pressed."""
    reader = Reader()
    reader.feed(text)
    (dialog,) = (own for tag, own in reader.elements if tag == "dialog")
    inside = text[text.index("<dialog") : text.index("</dialog>")]
    name = re.search(r'class="name">([^<]*)<', inside)[1]
    pressed = re.search(r'data-view="(\d)" aria-pressed="true"', inside)
    return dialog, name, set(re.findall(r'<img alt="\w+" src="([^"]+)"', inside)), pressed and pressed[1]


@needs_browser
@pytest.mark.slow
def test_a_click_opens_an_image_and_keys_lead_on(page, tmp_path):
    opened = "document.querySelectorAll('.thumbs a')[1].click();"
    dialog, name, files, view = dialog_of(after(page, opened, tmp_path))
    assert "open" in dialog and name.startswith("b ") and "(2 of 4)" in name and view == "0"
    assert files == {"gallery/00000.webp"}, "b is the first of the list, and the second of the order"
    _, name, files, _ = dialog_of(after(page, f"{opened} press('ArrowRight');", tmp_path))
    assert name.startswith("c ") and files == {"gallery/00003.webp"}
    _, name, _, _ = dialog_of(after(page, f"{opened} press('ArrowLeft'); press('ArrowLeft');", tmp_path))
    assert name.startswith("d "), "before the first comes the last"
    _, _, _, view = dialog_of(after(page, f"{opened} press('3');", tmp_path))
    assert view == "3"
    text = after(page, f"{opened} press('+'); press('+'); press('-');", tmp_path)
    assert "--zoom: 1.5" in text
    closed = "document.querySelector('[data-close]').click();"
    dialog, *_ = dialog_of(after(page, f"{opened} {closed}", tmp_path))
    assert "open" not in dialog


@needs_browser
@pytest.mark.slow
def test_arrows_follow_the_order_that_is_chosen(page, tmp_path):
    code = "choose('1'); document.querySelector('.thumbs a').click(); press('ArrowRight');"
    _, name, _, _ = dialog_of(after(page, code, tmp_path))
    assert name.startswith("c ") and "(2 of 4)" in name


@needs_browser
@pytest.mark.slow
def test_the_policy_lets_the_script_run_and_the_images_load(page, tmp_path):
    from PIL import Image

    folder = tmp_path / "gallery"
    folder.mkdir()
    for number in range(len(FEW)):
        Image.new("RGB", (320, 240)).save(folder / f"{number:05d}_thumb.webp")
    text = browsed(page.read_text(), tmp_path)
    assert "lowest first ⇅" in text, "set by the script"
    sizes = "document.title = [...document.querySelectorAll('.thumbs img')].map((one) => one.naturalWidth).join();"
    code = f"addEventListener('load', () => {{ {sizes} }});"
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    allowed = page.read_text().replace("script-src ", f"script-src 'sha256-{digest}' ")
    eager = allowed.replace('loading="lazy"', "").replace("</body>", f"<script>{code}</script></body>")
    assert "<title>320,320,320,320</title>" in browsed(eager, tmp_path)
