"""One tick at a time, on real storage: every way a cycle can go."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from sentiment.blobs import Blobs
from sentiment.errors import (
    CycleConflict,
    PipelineRefused,
    PipelineUnavailable,
    SettingsError,
    StoreUnavailable,
)
from sentiment.feedback.messages import iso
from sentiment.retrain.tick import Parts, Retraining
from sentiment.retrain.ticks import prune
from tests.retrain.world import World


def _started(world: World) -> list[str]:
    """Have a cycle started; return the ids of its errors."""
    ids = world.correct(6)
    world.tick()
    assert world.state().phase == "running"
    return ids


def test_nothing_happens_below_the_threshold(world: World) -> None:
    """And the tick says how much is missing."""
    world.correct(5)
    world.confirm(9)
    record = world.tick()
    assert (record.before, record.after, record.did, record.errors) == ("collecting", "collecting", (), ())
    assert record.decision == "5 accepted errors of 6; the oldest is 0.0 of 7 days old"
    assert record.counts is not None
    assert (record.counts.errors, record.counts.confirmations) == (5, 9)
    assert not world.workspace.jobs
    assert not world.manifests()
    assert [tick["decision"] for tick in world.ticks()] == [record.decision]


def test_past_the_threshold_a_cycle_starts(world: World) -> None:
    """With its manifest, a job named after it, and the counts of what it learns from."""
    errors, confirmations = world.correct(6), world.confirm(2)
    same = world.correct(2, text="said by three", user="anna") + world.correct(
        text="said by three", user="bob"
    )
    record = world.tick()
    assert (record.before, record.after, record.cycle) == ("collecting", "running", 1)
    assert record.decision == "7 accepted errors of 6"
    manifest = world.manifest()
    assert manifest.reason == record.decision
    assert set(manifest.errors) == {*errors, min(same)}
    assert manifest.errors == tuple(sorted(manifest.errors))
    assert set(manifest.duplicates) == set(same) - {min(same)}
    assert set(manifest.confirmations) == set(confirmations)
    assert manifest.corrected == {"positive": {"negative": 7}}
    assert manifest.predictions == {"positive": 7}
    assert manifest.champion == "seed"
    assert manifest.champion_sha256 == world.registry.champion().champion.sha256
    (job,) = world.workspace.jobs
    assert job == world.state().job
    assert job.startswith("sentiment-retrain-00001-")
    assert world.workspace.inputs[job] == {"cycle": "1"}
    assert world.pending() == {*errors, *confirmations, *same}


def test_while_it_runs_nothing_else_starts(world: World) -> None:
    """However much there is to learn."""
    _started(world)
    world.correct(20)
    world.wait(hours=3)
    record = world.tick()
    assert record.decision == "cycle 1 is running"
    assert len(world.workspace.jobs) == 1
    with pytest.raises(CycleConflict, match="cycle 1 is running"):
        world.loop.start("more")


def test_promoted_is_learned_and_settled(world: World) -> None:
    """All of the manifest, and nothing that came later."""
    ids = _started(world)
    late = world.correct(2)
    world.finish("promoted")
    record = world.tick()
    assert (record.before, record.after) == ("running", "settled")
    assert world.learned() == dict.fromkeys(ids, 1) | dict.fromkeys(late, None)
    assert world.state().version == "cycle-1"
    assert world.state().past[0].why == "cycle 1: better by 2.0 points"
    assert world.pending() == set(late)


def test_duplicates_and_confirmations_are_learned_with_their_cycle(world: World) -> None:
    """Otherwise the next cycle would learn the same text again."""
    world.correct(5)
    world.confirm(1)
    world.correct(user="anna", text="the same")
    world.correct(user="bob", text="the same")
    world.tick()
    world.finish("promoted")
    world.tick()
    assert world.pending() == set()


def test_what_was_erased_meanwhile_is_skipped(world: World) -> None:
    """The others are learned."""
    annas = world.correct(3, user="anna")
    ids = _started(world)[:3]
    world.erase("anna")
    world.finish("promoted")
    record = world.tick()
    assert world.state().phase == "settled"
    assert any("3 were erased" in line for line in record.did)
    assert not set(annas) & set(world.learned())
    assert all(world.learned()[id] == 1 for id in ids)


def test_refused_gives_everything_back_and_waits_for_news(world: World) -> None:
    """After the backoff it takes an error that the refused cycle did not know."""
    ids = _started(world)
    world.finish("refused")
    record = world.tick()
    assert (record.after, world.state().refused) == ("failed", True)
    assert "the gate refused cycle-1: macro-recall +2.0" in record.did[-1]
    assert world.pending() == set(ids)
    assert "cycle 1 was refused, which is followed by a wait of 2 hours" in world.tick().decision
    world.wait(hours=3)
    assert "none that refused cycle 1 did not know" in world.tick().decision
    world.correct()
    assert world.tick().after == "running"
    assert world.state().cycle == 2


def test_what_a_rolled_back_version_had_learned_is_no_news(world: World) -> None:
    """Otherwise the same cycle would run again and again."""
    ids = _started(world)
    version = world.finish("promoted")
    world.tick()
    world.roll_back(version)
    assert world.pending() == set(ids)
    world.wait(hours=3)
    assert "none that rolled back cycle 1 did not know" in world.tick().decision
    world.correct()
    assert world.tick().after == "running"


def test_promotions_that_are_rolled_back_double_the_wait(world: World) -> None:
    """From when they were rolled back, as failures do; one that is not ends that."""
    _started(world)
    for failure, hours in enumerate((2, 4, 8), start=1):
        version = world.finish("promoted")
        assert world.tick().after == "settled"
        world.wait(hours=20)
        world.roll_back(version)
        world.correct()
        said = world.tick().decision
        assert f"cycle {failure} was rolled back" in said
        assert f"is followed by a wait of {hours} hours" in said
        world.wait(hours=hours - 0.1)
        assert "not before" in world.tick().decision
        world.wait(hours=0.2)
        assert world.tick().after == "running"
        assert world.state().failures == failure
    world.finish("promoted")
    world.tick()
    world.wait(hours=3)
    world.correct(6)
    assert world.tick().after == "running"
    assert world.state().failures == 0


def test_predictions_are_counted_since_what_was_last_learned_and_kept(world: World) -> None:
    """What a cycle that failed, or was rolled back, gave back is about the predictions before it too."""

    def start() -> str:
        world.wait(hours=3)
        world.correct()
        world.loop.start("to see")
        return iso(world.now)

    start()
    world.finish("refused")
    world.tick()
    settled = start()
    world.finish("promoted")
    world.tick()
    start()
    world.finish("refused")
    world.tick()
    start()
    version = world.finish("promoted")
    world.tick()
    world.roll_back(version)
    kept = start()
    world.finish("promoted")
    world.tick()
    start()
    assert world.counted_since == ["", "", settled, settled, settled, kept]


def test_with_a_manifest_that_is_gone_the_number_of_predictions_is_unknown(world: World) -> None:
    """Nobody can tell what that cycle had learned from."""
    world.correct()
    world.loop.start("to see")
    world.finish("refused")
    world.tick()
    world.by_hand.delete_blob("cycles/1/manifest.json")
    record = world.loop.start("to see")
    assert record.after == "running"
    assert "cycles/1/manifest.json: is gone" in record.errors[0]
    assert world.manifest().predictions == {}


def test_records_of_ticks_are_kept_for_a_month(world: World) -> None:
    """To the day; what is no record stays."""
    blobs = Blobs(world.by_hand)
    assert prune(blobs, world.now) == 0
    world.tick()
    world.wait(days=1)
    world.tick()
    blobs.create("ticks/read me", b"")
    first, second, other = blobs.names("ticks/")
    world.wait(days=29)
    assert prune(blobs, world.now) == 0
    world.wait(days=1)
    assert prune(blobs, world.now) == 1
    assert prune(blobs, world.now) == 0
    assert blobs.names("ticks/") == [second, other]
    assert first < second


def test_failures_double_the_wait(world: World) -> None:
    """And a success ends that."""
    _started(world)
    for failure, hours in enumerate((2, 4, 8), start=1):
        world.workspace.end(world.state().job, "failed")
        record = world.tick()
        assert "it has left no outcome.json" in record.did[-1]
        assert world.state().failures == failure
        world.wait(hours=hours - 0.1)
        assert "not before" in world.tick().decision
        world.wait(hours=0.2)
        assert world.tick().after == "running"
    world.finish("promoted")
    world.tick()
    assert world.state().failures == 0
    assert [past.phase for past in world.state().past] == ["settled", "failed", "failed", "failed"]


@pytest.mark.parametrize("ended", ["failed", "canceled", "completed"])
def test_a_job_that_moved_the_pointer_and_died_is_a_success(world: World, ended: str) -> None:
    """The pointer is what counts; also when it was rolled back since."""
    ids = _started(world)
    world.finish("promoted", says=False)
    world.workspace.end(world.state().job, ended)  # type: ignore[arg-type]
    world.registry.rollback(by="test", reason="worse after all")
    world.tick()
    assert world.state().phase == "settled"
    assert world.learned() == dict.fromkeys(ids, 1)


def test_an_earlier_promotion_for_a_cycle_of_that_number_is_none_of_this_one(world: World) -> None:
    """A container of cycles that was cleared counts from 1 again."""
    world.promote("old", "cycle 1: from another life")
    _started(world)
    world.workspace.end(world.state().job, "failed")
    world.tick()
    assert world.state().phase == "failed"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "outcome.json: cannot be read"),
        (None, "is the outcome of cycle 7"),
    ],
)
def test_an_outcome_that_cannot_be_used_is_a_failure(world: World, content: bytes | None, said: str) -> None:
    """It says which file, and what is wrong with it."""
    _started(world)
    world.finish("refused")
    name = "cycles/1/outcome.json"
    other = json.loads(world.by_hand.download_blob(name).readall()) | {"cycle": 7}
    world.by_hand.upload_blob(name, content or json.dumps(other).encode(), overwrite=True)
    record = world.tick()
    assert world.state().phase == "failed"
    assert said in record.errors[0]
    assert said in world.state().why


def test_published_waits_for_its_deployment(world: World) -> None:
    """It is asked for once, and learned when the version is champion."""
    ids = _started(world)
    version = world.finish("published")
    assert world.tick().after == "running"
    assert [outcome.version for outcome in world.deployments] == [version]
    assert f"{version} waits for its deployment" in world.tick().did[0]
    assert len(world.deployments) == 1
    world.promote(version, "approved")
    assert world.tick().after == "settled"
    assert world.learned() == dict.fromkeys(ids, 1)


def test_a_deployment_that_cannot_be_asked_for_is_asked_for_again(world: World) -> None:
    """By the next tick."""
    _started(world)
    world.finish("published")
    world.deploy_error = PipelineUnavailable("start the deployment", "timeout")
    assert world.tick().errors == ("start the deployment: timeout",)
    world.deploy_error = None
    assert world.tick().errors == ()
    assert len(world.deployments) == 1


def test_a_deployment_that_nobody_approves_fails(world: World) -> None:
    """And nobody may promote that version afterwards."""
    ids = _started(world)
    version = world.finish("published")
    world.tick()
    world.wait(hours=49)
    world.tick()
    assert world.state().phase == "failed"
    assert f"{version} was published and not promoted within 48 hours" in world.state().why
    refusal = json.loads(world.by_hand.download_blob(f"refused/{version}.json").readall())
    assert refusal["version"] == version
    assert world.pending() == set(ids)


def test_a_job_that_azure_ml_does_not_take_now_is_submitted_later(world: World) -> None:
    """The state says running all the while: nothing else starts."""
    world.correct(6)

    def unavailable(moment: str) -> None:
        if moment == "before submit":
            raise PipelineUnavailable("submit the job", "503")

    world.workspace.on_call = unavailable
    record = world.tick()
    assert (record.after, record.errors) == ("running", ("submit the job: 503",))
    world.workspace.on_call = lambda moment: None
    assert world.tick().did[0].startswith("submitted the job")
    assert sum(world.workspace.created.values()) == 1


def test_a_job_that_azure_ml_never_takes_fails(world: World) -> None:
    """At once where it is refused, after the timeout where nobody answers."""
    world.correct(6)

    def refused(moment: str) -> None:
        if moment == "before submit":
            raise PipelineRefused("submit the job", "403: no role on the workspace")

    world.workspace.on_call = refused
    record = world.tick()
    assert (record.after, record.errors) == ("failed", ("submit the job: 403: no role on the workspace",))
    assert "was not taken: submit the job: 403" in world.state().why


def test_a_job_that_vanished_is_submitted_twice_more(world: World) -> None:
    """Under the same name; then the cycle fails."""
    _started(world)
    job = world.state().job
    for _ in range(2):
        world.workspace.vanish(job)
        assert world.tick().did[0] == f"there is no job {job} any more"
        assert world.workspace.jobs.keys() == {job}
    world.workspace.vanish(job)
    world.tick()
    assert world.state().phase == "failed"
    assert "it has vanished 3 times" in world.state().why


def test_a_job_that_did_its_work_and_was_removed_is_a_success(world: World) -> None:
    """It is not started again."""
    ids = _started(world)
    job = world.state().job
    world.finish("promoted")
    world.workspace.vanish(job)
    world.tick()
    assert world.state().phase == "settled"
    assert world.learned() == dict.fromkeys(ids, 1)
    assert world.workspace.created[job] == 1


def test_a_start_by_hand_needs_neither_threshold_nor_cooldown(world: World) -> None:
    """Only something to learn from."""
    with pytest.raises(CycleConflict, match="there is nothing to learn from"):
        world.loop.start("to try")
    (id,) = world.correct()
    record = world.loop.start("to try")
    assert (record.after, record.decision, record.by) == ("running", "to try", "command")
    assert world.manifest().errors == (id,)
    world.finish("refused")
    world.tick()
    assert world.loop.start("once more").after == "running"


def test_without_a_workspace_ticks_only_count(world: World) -> None:
    """And say so."""
    world.correct(6)
    parts: Parts = replace(world.loop._parts, jobs=None)
    record = Retraining(parts).tick()
    assert record.decision.endswith(
        "not started, because AZUREML_WORKSPACE is not set: there is no workspace to retrain in"
    )
    assert (record.after, record.errors) == ("collecting", ())
    with pytest.raises(SettingsError, match="AZUREML_WORKSPACE is not set"):
        Retraining(parts).start("to try")
    assert not world.manifests()


def test_the_watch_is_asked_at_every_tick(world: World) -> None:
    """Also when the step before it failed; what it says is kept."""
    world.watched = lambda: "seed is fine"
    assert world.tick().watch == "seed is fine"
    world.put_state(started_at="yesterday")
    record = world.tick()
    assert (record.watch, record.after) == ("seed is fine", None)
    assert "state.json: has 'yesterday' where a time" in record.errors[0]

    def away() -> str:
        raise StoreUnavailable("count predictions", "503")

    world.watched = away
    assert world.tick().errors[-1] == "count predictions: 503"


def test_a_clock_that_goes_back_holds_nobody_up(world: World) -> None:
    """A start a year ahead would otherwise be followed by a year of waiting."""
    _started(world)
    world.finish("promoted")
    world.tick()
    world.correct(6)
    world.wait(days=-365)
    record = world.tick()
    assert "the clock has gone back" in record.did[0]
    assert "not before 2024-06-01T14:00:00" in record.decision
    world.wait(hours=2.1)
    assert world.tick().after == "running"


def test_a_clock_that_goes_back_leaves_a_job_its_time(world: World) -> None:
    """It is cancelled its timeout after the clock went back, not a year later."""
    _started(world)
    world.wait(days=-365)
    assert world.tick().after == "running"
    world.wait(hours=12.1)
    assert world.tick().after == "failed"
