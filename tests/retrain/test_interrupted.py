"""Ticks that are cut short, overtaken, or not alone."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from azure.storage.blob import BlobLeaseClient
from msgspec.structs import replace

from localhost.azurite import Azurite
from sentiment.errors import CycleConflict
from sentiment.retrain.records import Phase
from sentiment.retrain.state import STATE
from tests.retrain.world import POLICY, World, open_world
from tests.wire import ProcessDied


def test_while_another_tick_is_at_work_this_one_stops(world: World) -> None:
    """It says what to do; so do the commands."""
    world.tick()
    world.correct(6)
    lease = BlobLeaseClient(world.by_hand.get_blob_client(STATE))
    lease.acquire(60)
    record = world.tick()
    assert record.after is None
    assert "another tick is at work on" in record.errors[0]
    assert "try again in a minute" in record.errors[0]
    for act in (world.loop.start, world.loop.cancel):
        with pytest.raises(CycleConflict, match="another tick is at work"):
            act("now")
    lease.release()
    assert world.tick().after == "running"


def test_a_tick_whose_lease_only_ran_out_goes_on(world: World) -> None:
    """Nobody else has taken it: If-Match says that nothing changed."""
    world.correct(6)
    world.tick()
    world.finish("promoted")
    world.wire.on_exchange = lambda exchange: (
        world.release_lease() if exchange.path == "cycles/1/manifest.json" else None
    )
    record = world.tick()
    assert (record.after, record.errors) == ("settled", ())


def test_a_tick_that_was_overtaken_stops(world: World) -> None:
    """Whatever it was about to say of the state is not said."""
    world.correct(6)
    world.tick()
    world.finish("refused")

    def overtaken(exchange: object) -> None:
        world.wire.on_exchange = lambda exchange: None
        world.release_lease()
        world.wait(seconds=1)
        assert world.other.tick().after == "failed"
        world.wait(seconds=-1)

    world.wire.on_exchange = lambda exchange: (
        overtaken(exchange) if exchange.path == "cycles/1/outcome.json" else None
    )
    record = world.tick()
    assert "was changed by another tick meanwhile" in record.errors[0]
    assert (world.state().phase, world.state().failures) == ("failed", 1)


POLICY_OF_TWO = replace(POLICY, threshold=2)
AFTERWARDS: dict[str, Phase] = {
    "start": "running",
    "promoted": "settled",
    "refused": "failed",
    "published": "running",
}


@pytest.mark.parametrize("stage", AFTERWARDS)
def test_a_crash_after_any_write_is_made_up_for(azurite: Azurite, tmp_path: Path, stage: str) -> None:
    """The next tick ends where this one would have: one job, everything learned once, or given back.

    A process that dies after a read leaves what the write before it left.
    """
    with open_world(azurite, tmp_path, POLICY_OF_TWO) as world:
        writes = _tick_cut_short(world, stage, 0, True)
        assert len(writes) > 3
        for number in writes:
            _tick_cut_short(world, stage, number, True)
            _tick_cut_short(world, stage, number, False)


def _tick_cut_short(world: World, stage: str, number: int, dies: bool) -> list[int]:
    """Have a tick die, or miss the answer, at a call; check what the next one makes of it.

    Returns which of its calls were writes.
    """
    world.clear()
    ids = world.correct(2)
    if stage != "start":
        world.tick()
        world.finish(stage, pointer=False)  # type: ignore[arg-type]
    world.wire.forget()
    if dies:
        world.wire.die_after = number
    else:
        world.wire.lose = number
    with suppress(ProcessDied):
        world.tick()
    writes = [call for call, exchange in enumerate(world.wire.exchanges, 1) if exchange.method != "GET"]
    world.wire.forget()
    world.release_lease()
    world.tick()
    after, at = world.state(), f"after a crash at call {number}"
    assert after.phase == AFTERWARDS[stage], at
    assert list(world.workspace.created.values()) == [1], at
    assert world.workspace.jobs.keys() == {after.job}, at
    assert world.learned() == dict.fromkeys(ids, after.cycle if stage == "promoted" else None), at
    assert after.failures == (stage == "refused"), at
    assert bool(world.deployments) == (stage == "published"), at
    return writes
