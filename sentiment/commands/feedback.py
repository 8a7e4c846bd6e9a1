"""``feedback``: corrections sent, listed, erased, and what went wrong with them put right."""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from sentiment.records import State

if TYPE_CHECKING:
    from sentiment.feedback.queue import Queued
    from sentiment.services import Services

_COLUMNS = (
    *("id", "state", "why", "counts", "predicted", "corrected", "model_version", "source"),
    *("user", "created_at", "cycle", "text", "comment"),
)
_REPORT_EVERY = 100
_LONGEST_LINE = 100


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "feedback",
        help="send, list and erase corrections; look after refused messages",
        description="Corrections in the account in AzureWebJobsStorage.",
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    send = actions.add_parser("send", help="put the rows of a .csv, .tsv or .jsonl file on the queue")
    send.add_argument("file", type=Path, metavar="FILE")
    send.set_defaults(run=_send)

    listing = actions.add_parser("list", help="stored corrections and what became of them")
    listing.add_argument("--state", choices=get_args(State), help="only these")
    listing.add_argument("--csv", action="store_true", help="as CSV, with the texts")
    listing.set_defaults(run=_list)

    erase = actions.add_parser("erase", help="erase what one person has said, wherever it is kept")
    erase.add_argument("--user", required=True, metavar="NAME", help="as given with the feedback")
    erase.set_defaults(run=_erase)

    for name, what, commands in (
        ("poison", "messages that kept failing", (_list_poison, _replay_poison, _drop_poison)),
        (
            "quarantine",
            "messages that can never be stored",
            (_list_quarantine, _replay_quarantine, _drop_quarantine),
        ),
    ):
        inner = actions.add_parser(name, help=f"{what}: list, replay, drop").add_subparsers(
            title="actions", metavar="ACTION", required=True
        )
        inner.add_parser("list", help=what).set_defaults(run=commands[0])
        replay = inner.add_parser("replay", help="put them on the queue again")
        drop = inner.add_parser("drop", help="remove them for good")
        for action, run in ((replay, commands[1]), (drop, commands[2])):
            action.add_argument("ids", nargs="*", metavar="ID", help="as listed")
            action.add_argument("--all", action="store_true", help="all that there are")
            action.set_defaults(run=run, usage=action.error)

    schema = actions.add_parser("schema", help="print the JSON Schema of a queue message")
    schema.set_defaults(run=_schema)


def _send(options: argparse.Namespace) -> int:
    from sentiment.feedback.files import read_corrections
    from sentiment.feedback.messages import encode_message

    services = _services()
    path: Path = options.file
    # All of it is read before anything is sent: a faulty file is refused as a whole.
    messages = read_corrections(path, services.pseudonyms, datetime.now(UTC))
    progress = _Progress(path)
    done = progress.sent
    if done:
        _say(f"{done} of {len(messages)} rows were sent before: going on from there")
    for number, message in enumerate(messages[done:], start=done + 1):
        services.queue.send(encode_message(message))
        if number % _REPORT_EVERY == 0 or number == len(messages):
            progress.note(number)
            filled = "#" * (30 * number // len(messages))
            _say(f"[{filled:<30}] {number} of {len(messages)}")
    progress.finish()
    print(f"sent {len(messages) - done} corrections; each is stored once, however often it is sent")
    return 0


class _Progress:
    """How many rows of a file were sent, kept beside it until all are.

    A killed run goes on from there. At worst a few rows are sent twice, which their
    ids make harmless.
    """

    def __init__(self, path: Path) -> None:
        self._note = path.with_name(path.name + ".sent")
        self._sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        self.sent = 0
        try:
            noted = json.loads(self._note.read_bytes())
            if noted["sha256"] == self._sha256:
                self.sent = int(noted["sent"])
        except (OSError, ValueError, KeyError, TypeError):
            # None, or of another file: from the start.
            self.sent = 0

    def note(self, sent: int) -> None:
        # Where nothing may be written, a killed run starts anew.
        with suppress(OSError):
            self._note.write_text(json.dumps({"sha256": self._sha256, "sent": sent}))

    def finish(self) -> None:
        with suppress(OSError):
            self._note.unlink(missing_ok=True)


def _list(options: argparse.Namespace) -> int:
    from sentiment.corrections import judged

    rows = [each for each in judged(_services()) if options.state in (None, each.state)]
    rows.sort(key=lambda each: (each.correction.created_at, each.correction.id))
    writer = csv.writer(sys.stdout)
    if options.csv:
        writer.writerow(_COLUMNS)
    for correction, state, why, counts in rows:
        if options.csv:
            writer.writerow(
                (
                    *(correction.id, state, why, "yes" if counts else "no"),
                    *(correction.predicted, correction.corrected, correction.model_version),
                    *(_inert(correction.source), correction.user, correction.created_at, correction.cycle),
                    *(_inert(correction.text), _inert(correction.comment or "")),
                )
            )
        else:
            change = f"{correction.predicted} -> {correction.corrected}"
            print(
                f"{correction.id}  {state:<8}  {change:<20}  {_short(correction.text)}{why and f'  ({why})'}"
            )
    return 0


def _inert(text: str) -> str:
    """Return a text that a spreadsheet does not take for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _erase(options: argparse.Namespace) -> int:
    from sentiment.corrections import erase

    erasure = erase(options.user, _services())
    print(f"erased {erasure.corrections} stored corrections, {erasure.queued} messages on the queue,")
    print(f"{erasure.poison} on the poison queue, {erasure.quarantined} in the quarantine")
    print(f"and {erasure.samples} sampled predictions of the same texts")
    if erasure.cycles:
        print(f"cycles that learned from them: {', '.join(map(str, erasure.cycles))}")
    for what in erasure.remaining:
        print(f"cannot be erased: {what}")
    if not erasure.corrections + erasure.queued + erasure.poison + erasure.quarantined:
        # Another key makes other pseudonyms, under which nobody has said anything.
        print("nothing was found: check the name, and that FEEDBACK_PSEUDONYM_KEY is the app's own")
    return 0


def _list_poison(options: argparse.Namespace) -> int:
    def show(message: Queued) -> Literal["keep"]:
        print(f"{message.id}  {message.inserted_at}  {_short(message.body.decode('utf-8', 'replace'))}")
        return "keep"

    _services().poison_queue.sweep(show)
    return 0


def _replay_poison(options: argparse.Namespace) -> int:
    services = _services()

    def again(message: Queued) -> None:
        # Encoded anew: what a producer forgot to encode is why it lies here.
        services.queue.put(base64.b64encode(message.body).decode())

    return _settle(options, "put on the queue again", again)


def _drop_poison(options: argparse.Namespace) -> int:
    return _settle(options, "dropped", lambda message: None)


def _settle(options: argparse.Namespace, done: str, act: Callable[[Queued], None]) -> int:
    ids = _chosen(options)
    found: set[str] = set()

    def decide(message: Queued) -> Literal["keep", "delete"]:
        if ids is not None and message.id not in ids:
            return "keep"
        found.add(message.id)
        # First the copy, then the removal: killed in between it is there twice, and stored once.
        act(message)
        return "delete"

    count = _services().poison_queue.sweep(decide)
    return _report(count, done, ids, found)


def _list_quarantine(options: argparse.Namespace) -> int:
    for kept in _services().quarantine.all():
        print(f"{kept.id}  {kept.at}  {kept.reason}: {_short(kept.detail)}  {_short(kept.body)}")
    return 0


def _replay_quarantine(options: argparse.Namespace) -> int:
    services = _services()
    return _settle_quarantine(options, "put on the queue again", services.queue.send, services)


def _drop_quarantine(options: argparse.Namespace) -> int:
    return _settle_quarantine(options, "dropped", lambda body: None, _services())


def _settle_quarantine(
    options: argparse.Namespace, done: str, act: Callable[[str], None], services: Services
) -> int:
    ids = _chosen(options)
    found: set[str] = set()
    for kept in list(services.quarantine.all()):
        if ids is None or kept.id in ids:
            act(kept.body)
            services.quarantine.remove(kept.id)
            found.add(kept.id)
    return _report(len(found), done, ids, found)


def _chosen(options: argparse.Namespace) -> set[str] | None:
    if bool(options.ids) == options.all:
        options.usage("name the messages, or say --all")
    return None if options.all else set(options.ids)


def _report(count: int, done: str, ids: set[str] | None, found: set[str]) -> int:
    print(f"{count} messages {done}")
    missing: Sequence[str] = sorted((ids or set()) - found)
    for id in missing:
        _say(f"error: there is no message {id}")
    return 1 if missing else 0


def _schema(options: argparse.Namespace) -> int:
    from sentiment.feedback.messages import json_schema

    print(json_schema().decode(), end="")
    return 0


def _services() -> Services:
    # Training needs this command line, and no storage packages.
    from sentiment.services import get_services

    return get_services()


def _short(text: str) -> str:
    """Return a text on one line that a terminal shows as it is."""
    line = "".join(character if character.isprintable() else " " for character in text[: 2 * _LONGEST_LINE])
    return line if len(line) <= _LONGEST_LINE else line[: _LONGEST_LINE - 3] + "..."


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
