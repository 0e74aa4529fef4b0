"""Uploads to Kaggle, and the calls of its client, which `log` and `download` use too.

The `kaggle` client is imported inside the functions: importing it logs in, and most runs never need it. It exits when
there are no credentials and never times out on a dead network, so every call goes through `ask`.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import itertools
import queue
import re
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.config.competition import Competition
from pipeline.errors import UserError
from pipeline.files import sha256_file
from pipeline.optional import install_command
from pipeline.paths import descriptor
from pipeline.submission.file import origin_path, read_origin

ANSWER_WITHIN_S = 20.0  # a look-up takes a second
UPLOAD_WITHIN_S = 1800.0  # a submission of some 100 MB over a slow line
_FACT = re.compile(r" \| (local_[a-z_]+|sha256|csv) ([0-9a-f.]+)(?= \||$)")
PAGE_SIZE = 20  # submissions on a page of Kaggle's answer
_HASH_DIGITS = 12  # of the sha256 in the message: enough to find the file again

CREDENTIALS = """no Kaggle credentials. Either
  - open https://www.kaggle.com/settings, "Create New Token", and put kaggle.json into ~/.kaggle/ (chmod 600), or
  - export KAGGLE_USERNAME=<name> KAGGLE_KEY=<key>   (or KAGGLE_API_TOKEN=<token>)
and start the same command again."""


class Submitted(NamedTuple):
    """An upload: Kaggle's number, the message as sent, and the hash of the content."""

    reference: str
    message: str
    sha256: str


def submit(
    path: Path | str,
    competition: Competition,
    message: str,
    again: bool = False,
    answer_within_s: float = ANSWER_WITHIN_S,
) -> Submitted:
    """Uploads a submission, with local score and content hash in the message, so that a score leads to its file.

    Kaggle is asked for the earlier submissions first: that shows within seconds whether network, credentials, name of
    the competition and acceptance of its rules are in order, before anything is uploaded.

    Args:
        path: the submission, checked before.
        competition: whose `kaggle_slug` is the target.
        message: what the experiment was.
        again: upload though the same content was uploaded before.
        answer_within_s: how long to wait for Kaggle before the upload.

    Raises:
        UserError: no such file, it is not what its origin says, no client, credentials, network or permission, or the
            same content was submitted before.
    """
    path = Path(path)
    slug = slug_of(competition)
    if not path.is_file():
        raise UserError(f"{path} does not exist; run the stage `submit` of the experiment first")
    sha256 = sha256_file(path)
    origin = read_origin(path)
    if origin and origin.get("sha256") != sha256:
        name = origin_path(path).name
        raise UserError(f"{path} was changed after {name} was written; run the stage `submit` again")
    scores = origin.get("local_scores", {}).items()
    facts = [f" | local_{name} {value:.4f}" for name, value in scores if isinstance(value, int | float)]
    full_message = message + "".join(facts) + f" | sha256 {sha256[:_HASH_DIGITS]}"
    client = connect(answer_within_s)
    earlier = all_submissions(client, slug, answer_within_s)
    if not again:
        _refuse_second_upload(path, sha256, earlier)
    answer = ask(
        f"upload {path.name} to {slug}",
        lambda: client.competition_submit(str(path), full_message, slug),
        UPLOAD_WITHIN_S,
    )
    if "could not submit" in text_of(answer, "message").lower():  # the client reports a broken upload as an answer
        raise UserError(f"the upload of {path} to {slug} broke off; start the same command again")
    return Submitted(text_of(answer, "ref"), full_message, sha256)


def slug_of(competition: Competition) -> str:
    """Returns the competition's name on Kaggle.

    Raises:
        UserError: it has none.
    """
    if competition.kaggle_slug is None:
        raise UserError(
            f"{competition.name} is not a Kaggle competition: KAGGLE_SLUG is not set in {descriptor(competition.name)}"
        )
    return competition.kaggle_slug


def connect(answer_within_s: float = ANSWER_WITHIN_S) -> Any:
    """Returns the `kaggle` package's client, logged in.

    Raises:
        UserError: the package is not installed, or there are no credentials; says how to get them.
    """

    def log_in() -> Any:
        from kaggle.api.kaggle_api_extended import KaggleApi

        client = KaggleApi()
        client.authenticate()
        return client

    with contextlib.redirect_stdout(io.StringIO()):  # the client prints a help page of its own
        return ask("log in", log_in, answer_within_s)


def ask(what: str, call: Callable[[], Any], within_s: float = ANSWER_WITHIN_S) -> Any:
    """Returns what a call of the client returns.

    The call runs in a thread of its own, because the client sets no time limit on its connections.

    Raises:
        UserError: no answer in `within_s` seconds, no network, or a refusal; says what to do.
    """
    outcome: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue()

    def run() -> None:
        try:
            outcome.put((call(), None))
        except BaseException as error:  # the client calls exit(1) without credentials
            outcome.put((None, error))

    threading.Thread(target=run, daemon=True, name=f"kaggle: {what}").start()
    try:
        answer, error = outcome.get(timeout=within_s)
    except queue.Empty:
        raise UserError(f"Kaggle did not answer within {within_s:g} s (to {what}). Is there a network?") from None
    if error is not None:
        raise _as_user_error(what, error) from error
    return answer


def all_submissions(client: Any, slug: str, answer_within_s: float = ANSWER_WITHIN_S) -> list[Any]:
    """Returns all submissions to a competition, the newest first; notes where the client cannot list all.

    Kaggle answers in pages of 20. The last one is known by the next, which has nothing new: a page may be shorter than
    others because entries are left out of it.

    Raises:
        UserError: see `ask`.
    """
    found = {_identity(one): one for one in newest_submissions(client, slug, answer_within_s)}
    name = page_name(client)
    if name is None and len(found) >= PAGE_SIZE:
        text = f"the installed Kaggle client lists only the last {PAGE_SIZE} submissions; older ones are left out."
        print(f"note: {text} To list all: {install_command('--upgrade', 'kaggle')}", file=sys.stderr)
    for number in itertools.count(2) if name is not None and found else ():
        page = newest_submissions(client, slug, answer_within_s, **{name: number})
        new = {_identity(one): one for one in page if _identity(one) not in found}
        if not new:
            break
        found |= new
    return list(found.values())


def newest_submissions(client: Any, slug: str, answer_within_s: float = ANSWER_WITHIN_S, **page: int) -> list[Any]:
    """Returns the first page of the submissions to a competition, or `page`.

    Raises:
        UserError: see `ask`.
    """
    what = f"look up submissions to {slug}"
    answer = ask(what, lambda: client.competition_submissions(slug, **page), answer_within_s)
    return [submission for submission in answer or [] if submission]


def _identity(submission: Any) -> tuple[str, str]:
    return text_of(submission, "ref"), text_of(submission, "date")


def page_name(client: Any) -> str | None:
    """Returns how a client calls the number of a page, or None where it has none.

    Client 2 has `page_number`. In 1.7 `page_token` is that number; in 1.8 it is a token that no call returns, in 1.6 it
    has no effect.
    """
    known = inspect.signature(client.competition_submissions).parameters
    if "page_number" in known:
        return "page_number"
    return "page_token" if "page_token" in known and isinstance(known["page_token"].default, int) else None


def facts_in(message: str) -> dict[str, str]:
    """Returns local scores and content hash from the message of a submission, as far as it has them.

    >>> facts_in("FPN, 480 px | local_dice 0.8123 | sha256 0123456789ab")
    {'local_dice': '0.8123', 'sha256': '0123456789ab'}
    """
    facts = dict(_FACT.findall(message))
    return {"sha256" if name == "csv" else name: value for name, value in facts.items()}  # csv: of earlier uploads


def text_of(answer: Any, name: str) -> str:
    """Returns a field of the client's answer as text, empty where it has none."""
    value = getattr(answer, name, None)
    return "" if value is None else str(value)


def _refuse_second_upload(path: Path, sha256: str, earlier: Sequence[Any]) -> None:
    for submission in earlier:
        if facts_in(text_of(submission, "description")).get("sha256") == sha256[:_HASH_DIGITS]:
            raise UserError(
                f"{path.name} was submitted before, with the same content, as {text_of(submission, 'ref')} on "
                f"{text_of(submission, 'date')}. Kaggle allows a few uploads a day; add --again to upload it anyway."
            )


def _as_user_error(what: str, error: BaseException) -> UserError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, ImportError):
        return UserError(f"the Kaggle client cannot be imported ({error}). Install it: {install_command('kaggle')}")
    # Clients before 1.6 raise these as soon as they are imported.
    is_unknown = isinstance(error, OSError | ValueError) and re.search(r"kaggle\.json|in configuration", str(error))
    if isinstance(error, SystemExit) or status == 401 or is_unknown:
        return UserError(CREDENTIALS)
    remedies = {
        403: "Join the competition and accept its rules on its page; after the deadline, uploads may be closed.",
        404: "Is KAGGLE_SLUG the last part of the competition's address?",
        429: "Too many requests or uploads for today; try again later.",
    }
    if status is not None:
        return UserError(f"Kaggle refused to {what}: {status} {error}. {remedies.get(status, 'Try again later.')}")
    if isinstance(error, OSError):
        return UserError(f"Kaggle cannot be reached (to {what}): {error}\nIs there a network?")
    return UserError(f"the Kaggle client failed to {what}: {type(error).__name__}: {error}")
