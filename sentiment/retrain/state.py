"""`state.json`: read by anybody, changed by one tick at a time.

A lease keeps two ticks from doing the same work. That neither undoes what the
other did does not hang on it: every change is conditional on the state that was
read (If-Match), so a tick that lost its lease half-way is refused and stops.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import TypeVar

import msgspec

from sentiment.blobs import Blobs, Content
from sentiment.errors import CycleConflict, DamagedRecord, StoreUnavailable
from sentiment.retrain.records import Phase, State

T = TypeVar("T")

STATE = "state.json"

#: The longest that storage grants; a tick that was killed holds up the next for this long at most.
LEASE_SECONDS = 60

_EDGES: dict[Phase, tuple[Phase, ...]] = {
    "collecting": ("running",),
    "running": ("settled", "failed"),
    "settled": ("running",),
    "failed": ("running",),
}


class HeldState:
    """The state in the hands of the one tick that may change it."""

    def __init__(self, blobs: Blobs, lease: str) -> None:
        self._blobs = blobs
        self._lease = lease
        self.state, self._etag = _read(blobs)

    def move(self, state: State) -> None:
        """Write the next state.

        Raises:
            CycleConflict: it was changed meanwhile, or the lease was lost.
        """
        before = self.state
        if before.phase == state.phase:
            assert before.cycle == state.cycle, "a cycle goes on under its number"
        else:
            assert state.phase in _EDGES[before.phase], f"no way from {before.phase} to {state.phase}"
        etag = self._etag
        if not self._write(state) and self.state == before and self._etag == etag:
            # Only the lease has run out: it begins anew if nobody else has taken it.
            self.renew()
            self._write(state)
        if self.state != state:
            raise _overtaken(self._blobs)

    def renew(self) -> None:
        """Keep the state for another while.

        Raises:
            CycleConflict: the lease has run out, and another tick has it.
        """
        if self._blobs.lease(STATE, LEASE_SECONDS, lease=self._lease) is None:
            raise _overtaken(self._blobs)

    def _write(self, state: State) -> bool:
        done = self._blobs.replace(STATE, encode(state), self._etag, lease=self._lease)
        # Also where it failed: the SDK repeats a request whose answer was lost, and meets its own work.
        self.state, self._etag = _read(self._blobs)
        return done


@contextmanager
def hold(blobs: Blobs) -> Iterator[HeldState]:
    """Hold the state, made where there is none, while the context lasts.

    Raises:
        CycleConflict: another tick holds it.
    """
    if blobs.read(STATE) is None:
        blobs.create_container()
        blobs.create(STATE, encode(State()))
    lease = blobs.lease(STATE, LEASE_SECONDS)
    if lease is None:
        raise CycleConflict(
            f"another tick is at work on {blobs.container}/{STATE}, or was killed less than "
            f"{LEASE_SECONDS} seconds ago: try again in a minute"
        )
    try:
        yield HeldState(blobs, lease)
    # Not `finally`: what ends the process ends it here too, and the lease runs out.
    except Exception:
        _release(blobs, lease)
        raise
    else:
        _release(blobs, lease)


def read_state(blobs: Blobs) -> State:
    """Return the state as it is now; that of a loop that has never run where there is none.

    Raises:
        DamagedRecord: it cannot be read.
    """
    content = blobs.read(STATE)
    return _state(content) if content else State()


def encode(record: msgspec.Struct) -> bytes:
    """Return a record as it is kept: JSON that a person can read."""
    return msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"


def decode(data: bytes, kind: type[T], name: str) -> T:
    """Return what the blob `name` says.

    Raises:
        DamagedRecord: it says nothing of that kind.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedRecord(name, f"cannot be read: {error}") from error


def check_times(name: str, *times: str | None) -> None:
    """Raise `DamagedRecord` where one of the times in the blob `name` is none; it may be missing."""
    for time in times:
        try:
            aware = not time or datetime.fromisoformat(time).tzinfo is not None
        except ValueError:
            aware = False
        if not aware:
            raise DamagedRecord(name, f"has {time!r} where a time in ISO 8601 with an offset belongs")


def _overtaken(blobs: Blobs) -> CycleConflict:
    return CycleConflict(
        f"{blobs.container}/{STATE} was changed by another tick meanwhile, or is kept by one: "
        "this tick stops here, the next one goes on from what is there"
    )


def _read(blobs: Blobs) -> tuple[State, str]:
    content = blobs.read(STATE)
    if content is None:
        raise DamagedRecord(STATE, "was removed while a tick was at work")
    return _state(content), content.etag


def _state(content: Content) -> State:
    state = decode(content.data, State, STATE)
    check_times(STATE, state.started_at, state.ended_at, state.published_at)
    return state


def _release(blobs: Blobs, lease: str) -> None:
    # It runs out by itself.
    with suppress(StoreUnavailable):
        blobs.release(STATE, lease)
