"""The watch after a promotion: what it concludes from numbers, and what it does about a bad version."""

from __future__ import annotations

import math
import random
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.storage.blob import LinearRetry
from hypothesis import given
from hypothesis import strategies as st

from localhost.azurite import Azurite
from sentiment.errors import (
    ModelNotFound,
    SentimentError,
    VersionRefused,
)
from sentiment.records import CorrectionMessage, Label
from sentiment.registry import ModelRegistry
from sentiment.retrain.cycles import write_manifest
from sentiment.retrain.records import CycleManifest, State
from sentiment.retrain.refusals import (
    Refusal,
    check_allowed,
    cycle_of,
    reason_of,
    refusal_of,
    refuse,
    refused_versions,
    undo,
)
from sentiment.retrain.state import STATE, encode
from sentiment.retrain.watch import (
    WatchPolicy,
    Window,
    judge_watch,
    p_value,
    policy_for,
    watch,
)
from sentiment.retrain.wiring import retraining
from sentiment.services import Services
from sentiment.settings import Settings
from tests.models import make_model_folder
from tests.wire import ProcessDied, Wire

POLICY = WatchPolicy()
BEFORE = Window(2000, 100)


# --- what the numbers say ---------------------------------------------------


@pytest.mark.parametrize(
    ("after", "decision"),
    [
        (Window(2000, 100), "keep"),
        (Window(2000, 115), "keep"),
        (Window(2000, 200), "roll back"),
        (Window(100, 40), "roll back"),
        (Window(49, 40), "undecided"),
        (Window(0, 0), "undecided"),
        (Window(50, 4), "keep"),
        (Window(2000, 0), "keep"),
    ],
)
def test_a_rise_that_is_no_chance_rolls_back(after: Window, decision: str) -> None:
    """Against five corrections per hundred predictions."""
    assert judge_watch(BEFORE, after, POLICY).decision == decision


def test_without_a_before_nothing_is_concluded() -> None:
    """A version whose predictions were not counted cannot be compared with."""
    assert judge_watch(Window(0, 0), Window(2000, 500), POLICY).decision == "undecided"


def test_a_small_rise_is_no_alarm_however_certain() -> None:
    """A million predictions make a tenth more significant, and still not worth undoing."""
    judgement = judge_watch(Window(10**6, 50_000), Window(10**6, 55_000), POLICY)
    assert judgement.p < 1e-30
    assert judgement.decision == "keep"


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 300), st.integers(1, 300))
def test_the_p_value_is_the_exact_binomial_tail(x: int, y: int, n: int, m: int) -> None:
    """As summed from its definition."""
    share = m / (n + m)
    expected = math.fsum(
        math.comb(x + y, k) * share**k * (1 - share) ** (x + y - k) for k in range(y, x + y + 1)
    )
    assert p_value(Window(n, x), Window(m, y)) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_the_p_value_of_large_numbers_is_right() -> None:
    """Where single terms are too small for a float, too."""
    assert p_value(Window(10**6, 10**6), Window(10**6, 10**5)) == 1.0
    assert p_value(Window(10**6, 10**5), Window(10**6, 10**6)) == 0.0
    assert p_value(Window(10**6, 10**5), Window(10**6, 10**5)) == pytest.approx(0.5, abs=0.01)


def _run(random: random.Random, before: float, after: float, steps: int, step: int) -> int | None:
    """Return after how many predictions a watch would have rolled back, looking after every `step`."""
    window = Window(2000, sum(random.random() < before for _ in range(2000)))
    corrections = 0
    for look in range(1, steps + 1):
        corrections += sum(random.random() < after for _ in range(step))
        now = Window(look * step, corrections)
        # The test itself is asked only where it could matter: most looks see no rise.
        if now.rate > window.rate and judge_watch(window, now, POLICY).decision == "roll back":
            return look * step
    return None


@pytest.mark.parametrize(("step", "runs"), [(20, 1000), (1, 200)], ids=["96 looks", "at every prediction"])
def test_false_alarms_are_rarer_than_the_level_says(step: int, runs: int) -> None:
    """Over a whole watch, and even when it is looked at after each single prediction."""
    dice = random.Random(5)
    alarms = sum(_run(dice, 0.05, 0.05, 1920 // step, step) is not None for _ in range(runs))
    assert alarms <= POLICY.level * runs


def test_a_model_that_is_wrong_three_times_as_often_is_caught() -> None:
    """Nearly always, and long before the day is over."""
    dice = random.Random(6)
    caught = [_run(dice, 0.05, 0.15, 96, 20) for _ in range(100)]
    found = sorted(after for after in caught if after is not None)
    assert len(found) >= 99
    assert found[len(found) // 2] <= 600


def test_a_longer_watch_shares_its_level_between_more_looks() -> None:
    assert policy_for(0.1).looks == policy_for(24).looks == 96
    assert policy_for(240).level_of_a_look == pytest.approx(0.01 / 960)


def test_the_reason_of_a_promotion_tells_its_cycle() -> None:
    """And a person's reason tells none."""
    assert cycle_of(reason_of(12, "passed the gate")) == 12
    for other in ("promoted by hand", "cycle 1 was fine", "cycle 0: ", "cycle x: "):
        assert cycle_of(other) is None


# --- what is done about it --------------------------------------------------

#: When the version under watch was promoted is the real time: the registry's clock.
HOUR = timedelta(hours=1)


class WiredServices(Services):
    """The product, whose every exchange with storage passes a wire, and which tries again at once."""

    def __init__(self, settings: Settings, wire: Wire) -> None:
        super().__init__(settings)
        self._wire = wire

    def _client(self, kind: Any, service: str, options: dict[str, Any]) -> Any:
        at_once: dict[str, Any] = {"retry_total": 2, "retry_backoff_factor": 0}
        if service == "blob":
            at_once = {"retry_policy": LinearRetry(backoff=0, retry_total=2, random_jitter_range=0)}
        return super()._client(kind, service, options | at_once | self._wire.hooks())


class World:
    """A store with two versions, the second promoted by cycle 7, and what was said about both."""

    def __init__(self, azurite: Azurite, folder: Path, hours: str = "24") -> None:
        self.wire = Wire()
        self.services = WiredServices(
            Settings.from_env(
                {
                    "AzureWebJobsStorage": azurite.connection_string,
                    "FEEDBACK_SIGNING_KEYS": "not-a-secret-in-tests",
                    "MODEL_CACHE_FOLDER": str(folder / "cache"),
                    "MODEL_CONTAINER": f"t{uuid.uuid4().hex}",
                    "RETRAIN_CONTAINER": f"t{uuid.uuid4().hex}",
                    "WATCH_HOURS": hours,
                }
            ),
            self.wire,
        )
        self.folder = folder
        for row_of in ("corrections", "usage"):
            table = self.services._table(row_of)
            for row in list(table.list(None)):
                table.change([("delete", {key: row[key] for key in ("PartitionKey", "RowKey")})])
        for version in ("tiny-1", "tiny-2"):
            self.registry.publish(make_model_folder(folder / version, version))
        self.promote("tiny-1", "the first")

    @property
    def registry(self) -> ModelRegistry:
        return self.services.registry

    def promote(self, version: str, reason: str) -> None:
        self.registry.promote(version, by="pipeline", reason=reason)

    def count(self, version: str, predictions: int) -> None:
        self.services.prediction_counts.add(version, "neutral", predictions)

    def correct(
        self, version: str, number: int, at: datetime, corrected: Label = "negative", user: str | None = None
    ) -> list[str]:
        ids = [f"{version}-{uuid.uuid4().hex}" for _ in range(number)]
        for id in ids:
            message = CorrectionMessage(
                schema=1,
                id=id,
                text=f"tweet {id}",
                predicted="neutral",
                corrected=corrected,
                model_version=version,
                source="test",
                user=user,
                created_at=at,
            )
            self.services.corrections.add(message, now=at)
        return ids

    def cycle(self, errors: list[str], confirmations: list[str] = []) -> int:  # noqa: B006
        """Have a cycle learn and promote."""
        manifest = CycleManifest(
            cycle=7,
            created_at="2025-01-01T00:00:00+00:00",
            reason="enough",
            champion="tiny-1",
            champion_sha256="0" * 64,
            errors=tuple(errors),
            confirmations=tuple(confirmations),
            predictions={},
            corrected={},
        )
        self.services.retrain_blobs.create_container()
        cycle, _ = write_manifest(self.services.retrain_blobs, manifest)
        self.promote("tiny-2", reason_of(cycle, "passed the gate"))
        for id in (*errors, *confirmations):
            self.services.corrections.learn(id, cycle)
        return cycle

    def a_bad_promotion(self, before: int = 2, corrections: int = 30) -> datetime:
        """Return a time at which 2 of 100 predictions were corrected before, and 30 of 100 since."""
        self.count("tiny-1", 100)
        learned = self.correct("tiny-1", before, datetime.now(UTC))
        right = self.correct("tiny-1", 1, datetime.now(UTC), "neutral")
        self.cycle(learned, right)
        self.count("tiny-2", 100)
        self.correct("tiny-2", corrections, datetime.now(UTC))
        return datetime.now(UTC) + timedelta(minutes=10)

    def serves(self) -> str:
        return self.registry.champion().champion.version

    def waiting(self) -> int:
        return sum(not voice.learned for voice in self.services.corrections.voices())


@pytest.fixture
def world(azurite: Azurite, tmp_path: Path) -> Iterator[World]:
    world = World(azurite, tmp_path)
    yield world
    world.services.close()


def test_a_bad_promotion_is_undone(world: World) -> None:
    """Rolled back, refused for good, its corrections given back, and said with numbers; once."""
    now = world.a_bad_promotion()
    assert world.waiting() == 30
    said = watch(world.services, now)
    assert said is not None
    assert said.startswith("roll back: tiny-2 was corrected 30 times in 100 predictions, tiny-1 before it 2 ")
    assert said.endswith("tiny-1 serves again, 3 corrections wait again")
    champion = world.registry.champion().champion
    assert (champion.version, champion.by, champion.restores) == ("tiny-1", "watch", 1)
    assert "corrected 30 times in 100" in champion.reason
    assert world.waiting() == 33
    refusal = refusal_of(world.services.retrain_blobs, "tiny-2")
    assert refusal is not None
    assert refusal.given_back
    assert refusal.reason == champion.reason
    with pytest.raises(VersionRefused, match="corrected 30 times"):
        check_allowed(world.services.retrain_blobs, "tiny-2")
    assert watch(world.services, now) is None
    assert len(world.registry.history()) == 3


def test_every_tick_looks(world: World) -> None:
    """And keeps what it saw, although there is no workspace to retrain in."""
    world.a_bad_promotion(corrections=1)
    kept = retraining(world.services).tick()
    assert kept.errors == ()
    assert kept.watch is not None
    assert kept.watch.startswith("keep: tiny-2 was corrected")


def test_a_good_promotion_is_kept(world: World) -> None:
    """As long as it is watched, and not looked at any more afterwards."""
    now = world.a_bad_promotion(corrections=2)
    said = watch(world.services, now)
    assert said is not None
    assert said.startswith("keep: tiny-2 was corrected 2 times in 100 predictions")
    assert watch(world.services, now + 24 * HOUR) is None
    assert world.serves() == "tiny-2"


def test_corrections_of_other_versions_and_times_do_not_count(world: World) -> None:
    """Nor do confirmations."""
    now = world.a_bad_promotion(corrections=2)
    at = datetime.now(UTC)
    world.correct("tiny-1", 30, at)
    world.correct("tiny-0", 30, at)
    world.correct("tiny-2", 30, at - 2 * HOUR)
    world.correct("tiny-2", 30, at, "neutral")
    said = watch(world.services, now)
    assert said is not None
    assert said.startswith("keep: tiny-2 was corrected 2 times in 100 predictions, tiny-1 before it 2 times")


def test_one_user_alone_rolls_nothing_back(world: World) -> None:
    """However much there is of others about other versions, FEEDBACK_USER_CAP is of this one."""
    now = world.a_bad_promotion(corrections=8)
    at = datetime.now(UTC)
    world.correct("tiny-0", 100, at)
    world.correct("tiny-2", 30, at, user="eager")
    said = watch(world.services, now)
    assert said is not None
    assert said.startswith("keep: tiny-2 was corrected 10 times in 100 predictions")


@pytest.mark.parametrize("reason", ["promoted by hand", "cycle of life"])
def test_what_a_person_promoted_is_not_watched(world: World, reason: str) -> None:
    """They know what they do, and would not like to be overruled."""
    world.count("tiny-1", 100)
    world.promote("tiny-2", reason)
    world.count("tiny-2", 100)
    world.correct("tiny-2", 50, datetime.now(UTC))
    assert watch(world.services, datetime.now(UTC) + HOUR) is None
    assert world.serves() == "tiny-2"


def test_a_return_by_hand_is_not_watched(world: World) -> None:
    """Back to a version that a cycle had promoted."""
    now = world.a_bad_promotion()
    world.registry.rollback(by="me", reason="back")
    world.registry.rollback(to="tiny-2", by="me", reason="and forth")
    assert watch(world.services, now) is None


def test_a_watch_can_be_off(azurite: Azurite, tmp_path: Path) -> None:
    """WATCH_HOURS=0."""
    world = World(azurite, tmp_path, hours="0")
    assert watch(world.services, world.a_bad_promotion()) is None
    assert world.serves() == "tiny-2"
    world.services.close()


def test_without_a_model_there_is_nothing_to_watch(azurite: Azurite, tmp_path: Path) -> None:
    """Nor a container."""
    world = World(azurite, tmp_path)
    world.services.close()
    settings = Settings.from_env(
        {"AzureWebJobsStorage": azurite.connection_string, "FEEDBACK_SIGNING_KEYS": "k" * 16}
        | {"MODEL_CONTAINER": f"t{uuid.uuid4().hex}", "RETRAIN_CONTAINER": f"t{uuid.uuid4().hex}"}
    )
    services = Services(settings)
    assert watch(services, datetime.now(UTC)) is None
    services.close()


def test_corrections_wait_until_their_cycle_is_settled(world: World) -> None:
    """Or a tick that is still noting them as learned would take them away for good."""
    now = world.a_bad_promotion()
    blobs = world.services.retrain_blobs
    blobs.create(STATE, encode(State(phase="running", cycle=7, job="a job")))
    said = watch(world.services, now)
    assert said is not None
    assert said.endswith("tiny-1 serves again, cycle 7 is not settled yet")
    assert world.serves() == "tiny-1"
    assert world.waiting() == 30
    content = blobs.read(STATE)
    assert content is not None
    blobs.replace(STATE, encode(State(phase="settled", cycle=7, job="a job")), content.etag)
    said = watch(world.services, now)
    assert said == "tiny-2 was taken out of service: tiny-1 serves, 3 corrections wait again"
    assert world.waiting() == 33


@pytest.mark.parametrize("ends", ["dies", "loses"])
def test_a_crash_after_any_write_is_made_good(azurite: Azurite, tmp_path: Path, ends: str) -> None:
    """Repeated, the outcome is the same: rolled back once, nothing learned that is not served."""
    # After a call that only reads, everything is as after the write before it. The first run finds them.
    writes = [0]
    for run in range(100):
        if run == len(writes):
            break
        world = World(azurite, tmp_path / str(run))
        now = world.a_bad_promotion(before=0, corrections=15)
        world.services.prediction_counts.flush()
        world.wire.forget()
        number = writes[run]
        world.wire.die_after, world.wire.lose = (number, None) if ends == "dies" else (None, number)
        with suppress(ProcessDied, SentimentError):
            watch(world.services, now)
        if run == 0:
            exchanges = enumerate(world.wire.exchanges, start=1)
            writes += [n for n, exchange in exchanges if exchange.method not in ("GET", "HEAD")]
        world.wire.forget()
        for _ in range(2):
            watch(world.services, now)
        assert [record.version for record in world.registry.history()] == ["tiny-1", "tiny-2", "tiny-1"]
        assert world.waiting() == 16, f"after call {number}"
        refusal = refusal_of(world.services.retrain_blobs, "tiny-2")
        assert refusal is not None
        assert refusal.given_back, f"after call {number}"
        world.services.close()
    assert len(writes) > 4


# --- refusals ---------------------------------------------------------------


def test_undoing_goes_past_refused_versions(world: World) -> None:
    """And where nothing is left to go back to, nothing changes."""
    blobs = world.services.retrain_blobs
    world.cycle([])
    world.registry.publish(make_model_folder(world.folder / "tiny-3", "tiny-3"))
    world.promote("tiny-3", "by hand")
    refuse(blobs, Refusal(version="tiny-2", reason="bad", at=""))
    undone = undo(world.services, world.registry.champion(), by="me", reason="bad too", now=datetime.now(UTC))
    assert (undone.champion, undone.given_back) == ("tiny-1", 0)
    assert refused_versions(blobs) == {"tiny-2", "tiny-3"}
    with pytest.raises(ModelNotFound):
        undo(world.services, world.registry.champion(), by="me", reason="all bad", now=datetime.now(UTC))
    assert refused_versions(blobs) == {"tiny-2", "tiny-3"}
    with pytest.raises(VersionRefused):
        undo(
            world.services,
            world.registry.champion(),
            to="tiny-2",
            by="me",
            reason="back",
            now=datetime.now(UTC),
        )


def test_what_another_version_was_built_on_is_not_given_back(world: World) -> None:
    """A promotion between the refusal and the roll-back wins: its champion knows those corrections."""
    now = world.a_bad_promotion()
    found = world.registry.champion()
    world.registry.publish(make_model_folder(world.folder / "tiny-3", "tiny-3"))
    world.promote("tiny-3", "by hand")
    undone = undo(world.services, found, by="watch", reason="bad", now=now)
    assert (undone.champion, undone.given_back) == ("tiny-3", 0)
    assert world.waiting() == 30
    assert refused_versions(world.services.retrain_blobs) == {"tiny-2"}
    assert watch(world.services, now) is None


def test_a_refusal_without_a_promotion_gives_way_to_one_with(world: World) -> None:
    """A candidate that was refused and promoted at the same moment is undone all the same."""
    now = world.a_bad_promotion()
    blobs = world.services.retrain_blobs
    first = refuse(blobs, Refusal(version="tiny-2", reason="not deployed in time", at=""))
    assert refuse(blobs, Refusal(version="tiny-2", reason="again", at="")) == first
    watch(world.services, now)
    assert world.serves() == "tiny-1"
    assert world.waiting() == 33
