"""``retrain``: where the retraining loop stands, and its next step by hand."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from sentiment.retrain.records import State, TickRecord
    from sentiment.retrain.tick import Retraining

_TICKS = 10
_PAST = 5


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "retrain",
        help="see where the retraining loop stands; take its next step, start or cancel a cycle",
        description="The retraining loop of the app whose account is in AzureWebJobsStorage.",
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    status = actions.add_parser("status", help="the state, what is missing to the next start, the last ticks")
    status.add_argument("--json", action="store_true", help="as JSON")
    status.add_argument(
        "--ticks", type=_count, default=_TICKS, metavar="N", help=f"how many (default: {_TICKS})"
    )
    status.set_defaults(run=_status)

    tick = actions.add_parser("tick", help="what the timer does: count, decide, take the next step")
    tick.set_defaults(run=_tick)

    start = actions.add_parser("start", help="start a cycle now, without the threshold and the cooldown")
    start.add_argument("--reason", required=True, metavar="TEXT", help="kept with the cycle")
    start.set_defaults(run=_start)

    cancel = actions.add_parser("cancel", help="cancel the running cycle and give its corrections back")
    cancel.add_argument(
        "--reason", default="cancelled by hand", metavar="TEXT", help="(default: %(default)s)"
    )
    cancel.set_defaults(run=_cancel)


def _status(options: argparse.Namespace) -> int:
    from sentiment.retrain import ticks
    from sentiment.retrain.state import read_state
    from sentiment.services import get_services

    blobs = get_services().retrain_blobs
    loop, state, now = _loop(), read_state(blobs), datetime.now(UTC)
    counts, decision = loop.outlook(state, loop.pending())
    latest = ticks.latest(blobs, options.ticks, now)
    if options.json:
        status = {"state": state, "counts": counts, "decision": decision, "ticks": latest}
        print(msgspec.json.format(msgspec.json.encode(status), indent=2).decode())
        return 0
    _print_state(state)
    oldest = f", the oldest of {counts.oldest[:19]}" if counts.oldest else ""
    print(f"to learn: {counts.errors} accepted errors{oldest}; {counts.confirmations} confirmations;")
    print(f"          {counts.duplicates} duplicates; {counts.held} held")
    print(f"next:     {'starts: ' if decision.start else ''}{decision.reason}")
    if decision.missing and state.phase != "running":
        print(f"          {decision.missing} more accepted errors are missing")
    if decision.not_before is not None and decision.not_before > now:
        print(f"          not before {decision.not_before.isoformat(timespec='seconds')}")
    for past in state.past[:_PAST]:
        print(
            f"cycle {past.cycle}: {past.phase} {past.ended_at[:19]}: {past.why} (started for: {past.reason})"
        )
    print("last ticks:" if latest else "no ticks in the past two weeks")
    for record in latest:
        _print_tick(record)
    return 0


def _print_state(state: State) -> None:
    if state.phase == "collecting":
        print("state:    collecting; no cycle has been started yet")
        return
    print(f"state:    cycle {state.cycle} {state.phase}; started {state.started_at[:19]}: {state.reason}")
    print(f"job:      {state.job}")
    if state.phase != "running":
        print(f"ended:    {(state.ended_at or '')[:19]}: {state.why}")
    elif state.published_at is not None:
        print(f"waits:    {state.version} for its deployment since {state.published_at[:19]}")
    if state.phase == "running" and state.stop:
        print(f"stops:    {state.stop}")


def _print_tick(record: TickRecord) -> None:
    before, after = record.before or "?", record.after or "?"
    moved = after if before == after else f"{before} -> {after}"
    print(f"  {record.at[:19]}  {record.by:<7}  cycle {record.cycle} {moved}: {record.decision}")
    for line in record.did:
        print(f"    {line}")
    if record.watch:
        print(f"    watch: {record.watch}")
    for line in record.errors:
        print(f"    error: {line}")


def _tick(options: argparse.Namespace) -> int:
    return _done(_loop().tick(by="command"))


def _start(options: argparse.Namespace) -> int:
    return _done(_loop().start(options.reason))


def _cancel(options: argparse.Namespace) -> int:
    return _done(_loop().cancel(options.reason))


def _done(record: TickRecord) -> int:
    _print_tick(record)
    return 1 if record.errors else 0


def _loop() -> Retraining:
    # Training needs this command line, and no storage packages.
    from sentiment.retrain.wiring import retraining
    from sentiment.services import get_services

    return retraining(get_services())


def _count(value: str) -> int:
    number = int(value)
    if number < 0:
        raise ValueError
    return number
