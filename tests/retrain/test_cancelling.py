"""A cycle that is called off: by hand, or for having run too long."""

from __future__ import annotations

import pytest

from sentiment.errors import (
    CycleConflict,
    PipelineUnavailable,
)
from tests.retrain.world import World


def _started(world: World) -> list[str]:
    """Have a cycle started; return the ids of its errors."""
    ids = world.correct(6)
    world.tick()
    assert world.state().phase == "running"
    return ids


def test_a_job_that_runs_too_long_is_cancelled(world: World) -> None:
    """And its corrections are given back; no other starts before it has stopped."""
    ids = _started(world)
    world.workspace.stubborn = True
    world.wait(hours=13)
    record = world.tick()
    assert record.after == "running"
    assert "to stop, and it has not yet" in record.did[-1]
    world.workspace.stubborn = False
    assert world.tick().after == "failed"
    assert "ran for more than 12 hours" in world.state().why
    assert world.workspace.jobs[world.state().job].state == "canceled"
    assert world.pending() == set(ids)


def test_a_cancelled_cycle_gives_its_corrections_back(world: World) -> None:
    """Its job is cancelled first."""
    ids = _started(world)
    record = world.loop.cancel("wrong data")
    assert (record.after, record.errors) == ("failed", ())
    assert "wrong data" in world.state().why
    assert world.workspace.jobs[world.state().job].state == "canceled"
    assert world.pending() == set(ids)
    with pytest.raises(CycleConflict, match="no cycle is running: the state is failed"):
        world.loop.cancel("again")


def test_a_cycle_cancelled_while_azure_ml_is_away_is_cancelled_by_the_next_tick(world: World) -> None:
    """What was asked for is in the state."""
    _started(world)

    def away(moment: str) -> None:
        raise PipelineUnavailable("find the job", "timeout")

    world.workspace.on_call = away
    record = world.loop.cancel("wrong data")
    assert (record.after, record.errors) == ("running", ("find the job: timeout",))
    world.workspace.on_call = lambda moment: None
    assert world.tick().after == "failed"


def test_a_cycle_cancelled_too_late_is_a_success(world: World) -> None:
    """What the champion has learned is not given back."""
    ids = _started(world)
    world.finish("promoted")
    world.loop.cancel("wrong data")
    assert world.state().phase == "settled"
    assert world.learned() == dict.fromkeys(ids, 1)


def test_a_cycle_cancelled_while_it_waits_for_its_deployment_is_never_deployed(world: World) -> None:
    """The version is kept from being promoted."""
    _started(world)
    version = world.finish("published")
    world.tick()
    world.loop.cancel("wrong data")
    assert world.state().phase == "failed"
    assert world.by_hand.get_blob_client(f"refused/{version}.json").exists()
