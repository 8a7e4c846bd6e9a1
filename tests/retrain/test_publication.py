"""Publishing: only what passed, only over what it was compared with, once, whatever dies on the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from localhost.azurite import Azurite
from sentiment.errors import DataError
from sentiment.manifest import read_manifest
from sentiment.retrain.cycles import read_outcome
from sentiment.retrain.publication import BY, Mode, publish_candidate
from sentiment.retrain.records import Outcome
from sentiment.retrain.refusals import Refusal, cycle_of, refuse
from tests.models import make_model_folder
from tests.retrain.cycles import NOW, Cycle
from tests.wire import ProcessDied

WHO = {"by": "test", "reason": "to see"}


@pytest.fixture
def cycle(azurite: Azurite, tmp_path: Path) -> Iterator[Cycle]:
    with Cycle.open(azurite, tmp_path) as cycle:
        cycle.prepare(cycle.decide())
        yield cycle


def _publish(
    cycle: Cycle, *, gate: Path | None = None, model: Path | None = None, mode: Mode = "direct"
) -> Outcome:
    return publish_candidate(
        data=cycle.out,
        model=model or cycle.candidate(),
        gate=gate or cycle.gate(),
        mode=mode,
        registry=cycle.registry,
        blobs=cycle.blobs,
        clock=lambda: NOW,
    )


def _versions(cycle: Cycle) -> list[str]:
    return sorted(version.version for version in cycle.registry.versions())


def test_what_passed_becomes_champion(cycle: Cycle) -> None:
    """The pointer says which cycle it came from; the gate's report and the outcome are kept."""
    outcome = _publish(cycle)
    assert (outcome.verdict, outcome.version, outcome.champion) == ("promoted", "tiny-2", "tiny-1")
    assert outcome.sha256 == read_manifest(cycle.candidate())[1]
    champion = cycle.registry.champion().champion
    assert (champion.version, champion.by, cycle_of(champion.reason)) == ("tiny-2", BY, 1)
    assert read_outcome(cycle.blobs, 1) == outcome
    for name in ("gate.json", "gate.md"):
        content = cycle.blobs.read(f"cycles/1/{name}")
        assert content is not None
        assert content.data == (cycle.gate() / name).read_bytes()


def test_what_was_refused_is_not_even_uploaded(cycle: Cycle) -> None:
    """The reasons are those of the gate."""
    outcome = _publish(cycle, gate=cycle.gate("refuse", "golden: worse", "slices: emoji"))
    assert (outcome.verdict, outcome.reasons) == ("refused", ("golden: worse", "slices: emoji"))
    assert _versions(cycle) == ["tiny-1"]
    assert cycle.registry.champion().champion.version == "tiny-1"


@pytest.mark.parametrize("mode", ["github", "devops"])
def test_where_a_deployment_promotes_the_pointer_stays(cycle: Cycle, mode: Mode) -> None:
    outcome = _publish(cycle, mode=mode)
    assert outcome.verdict == "published"
    assert _versions(cycle) == ["tiny-1", "tiny-2"]
    assert cycle.registry.champion().champion.version == "tiny-1"


def test_a_version_that_was_refused_for_good_stays_out(cycle: Cycle) -> None:
    refuse(cycle.blobs, Refusal(version="tiny-2", reason="corrected too often", at=""))
    outcome = _publish(cycle)
    assert outcome.verdict == "refused"
    assert "corrected too often" in outcome.reasons[0]
    assert _versions(cycle) == ["tiny-1"]


def test_what_was_compared_must_still_serve(cycle: Cycle) -> None:
    """Somebody promoted another model while the pipeline ran."""
    cycle.registry.publish(make_model_folder(cycle.folder / "tiny-9", "tiny-9"))
    cycle.registry.promote("tiny-9", **WHO)
    outcome = _publish(cycle)
    assert outcome.verdict == "refused"
    assert "champion changed meanwhile" in outcome.reasons[0]
    assert cycle.registry.champion().champion.version == "tiny-9"


def test_a_candidate_that_learned_nothing_is_refused(cycle: Cycle) -> None:
    """The same files under another name."""
    outcome = _publish(cycle, model=cycle.candidate("tiny-3", "neutral"))
    assert outcome.verdict == "refused"
    assert "is the champion, to the byte" in outcome.reasons[0]


def test_a_candidate_of_another_parent_is_refused(cycle: Cycle) -> None:
    outcome = _publish(cycle, model=cycle.candidate("tiny-3", parent="tiny-0"))
    assert outcome.verdict == "refused"
    assert "was made from tiny-0" in outcome.reasons[0]


def test_without_a_verdict_nothing_happens(cycle: Cycle) -> None:
    """No file, an unknown word, no data: the step fails by name, and leaves no outcome."""
    empty = cycle.folder / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="step gate"):
        _publish(cycle, gate=empty)
    (empty / "gate.json").write_text('{"verdict": "maybe", "reasons": []}', encoding="utf-8")
    with pytest.raises(DataError, match="cannot be read"):
        _publish(cycle, gate=empty)
    (cycle.out / "fingerprints.json").unlink()
    with pytest.raises(DataError, match="step prepare"):
        _publish(cycle)
    assert read_outcome(cycle.blobs, 1) is None
    assert _versions(cycle) == ["tiny-1"]


def test_a_cycle_ends_once(cycle: Cycle) -> None:
    """Run again, also with another verdict, it says what it said."""
    outcome = _publish(cycle)
    cycle.registry.rollback(**WHO)
    assert _publish(cycle, gate=cycle.gate("refuse", "no")) == outcome
    assert cycle.registry.champion().champion.version == "tiny-1"


@pytest.mark.parametrize("verdict", ["promote", "refuse"])
def test_a_crash_anywhere_is_repeated(azurite: Azurite, tmp_path: Path, verdict: str) -> None:
    """One promotion, one outcome, whatever answer the process died before."""
    crashes = 0
    with Cycle.open(azurite, tmp_path) as prepared:
        prepared.prepare(prepared.decide())
        for number in range(1, 100):
            with Cycle.open(azurite, tmp_path) as cycle:
                cycle.out = prepared.out
                gate = cycle.gate(verdict, *(["no"] if verdict == "refuse" else []))
                cycle.wire.forget()
                cycle.wire.die_after = number
                try:
                    _publish(cycle, gate=gate)
                except ProcessDied:
                    crashes += 1
                else:
                    break
                cycle.wire.forget()
                outcome = _publish(cycle, gate=gate)
                assert outcome.verdict == ("promoted" if verdict == "promote" else "refused"), number
                assert read_outcome(cycle.blobs, 1) == outcome
                expected = ["tiny-2", "tiny-1"] if verdict == "promote" else ["tiny-1"]
                assert [record.version for record in cycle.registry.history()] == expected, number
    assert crashes > 5


def test_a_roll_back_between_a_crash_and_its_repetition_stands(cycle: Cycle) -> None:
    """It was promoted, and somebody took it back: promoting it again would undo that."""

    def die_at_the_end(exchange: object) -> None:
        if getattr(exchange, "path", "") == "cycles/1/gate.json":
            raise ProcessDied

    cycle.wire.on_exchange = die_at_the_end
    with pytest.raises(ProcessDied):
        _publish(cycle)
    cycle.wire.on_exchange = lambda exchange: None
    cycle.registry.rollback(**WHO)
    assert _publish(cycle).verdict == "promoted"
    assert cycle.registry.champion().champion.version == "tiny-1"
