"""`behaviour`, `step evaluate` and `step gate`, by the commands that people and pipelines give."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from sentiment.__main__ import main
from sentiment.commands import judging
from sentiment.errors import DataError, InvalidModel, SettingsError
from sentiment.evaluation.feedback_rows import FeedbackRow, encode_feedback
from sentiment.evaluation.prediction_files import read_predictions, write_predictions
from sentiment.records import LABELS, Label
from tests.models import make_model_folder
from tests.predictions import make_pair, replace_set


def _step(*arguments: object) -> int:
    """Carry out one step, as the command line does."""
    parser = argparse.ArgumentParser()
    steps = parser.add_subparsers(required=True)
    judging.add_evaluate(steps)
    judging.add_gate(steps)
    options = parser.parse_args([str(argument) for argument in arguments])
    code: int = options.run(options)
    return code


def _row(text: str, label: Label, predicted: Label, cycle: int) -> FeedbackRow:
    kind = "confirmation" if label == predicted else "error"
    return FeedbackRow(label=label, text=text, predicted=predicted, kind=kind, cycle=cycle)  # type: ignore[arg-type]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """What `step prepare` writes: a golden set of 400 tweets and the corrections of two cycles."""
    folder = tmp_path / "data"
    folder.mkdir()
    words = {"negative": "hate", "neutral": "bus", "positive": "love"}
    rows = [f"{label}\tnumber {row} {words[label]}" for row in range(133) for label in LABELS]
    # Without a word that the model knows, the answer is its bias.
    rows.append("neutral\tnothing to see")
    (folder / "golden.tsv").write_text("\n".join(["label\ttext", *rows]) + "\n", encoding="utf-8")
    heldout = [
        *(_row(f"held {row}", "positive", "neutral", 2) for row in range(20)),
        *(_row(f"held bus {row}", "neutral", "neutral", 2) for row in range(30)),
        *(_row(f"old bus {row}", "neutral", "neutral", 1) for row in range(10)),
    ]
    learned = [
        *(_row(f"learned {row}", "positive", "neutral", 2) for row in range(80)),
        *(_row(f"learned bus {row}", "neutral", "neutral", 2) for row in range(120)),
    ]
    (folder / "heldout.jsonl").write_bytes(encode_feedback(heldout))
    (folder / "feedback.jsonl").write_bytes(encode_feedback(learned))
    (folder / "cycle.json").write_text(json.dumps({"cycle": 2, "predictions": {"neutral": 1_000}}))
    return folder


def test_a_better_model_goes_through_both_steps(data: Path, tmp_path: Path) -> None:
    """From two model folders to a promotion, with the report in both forms."""
    for name, bias in (("champion", "neutral"), ("candidate", "positive")):
        folder = make_model_folder(tmp_path / name, name, bias)  # type: ignore[arg-type]
        out = tmp_path / name / "predictions.json"
        assert _step("evaluate", "--data", data, "--model", folder, "--out", out) == 0
    code = _step(
        "gate",
        "--champion", tmp_path / "champion" / "predictions.json",
        "--candidate", tmp_path / "candidate" / "predictions.json",
        "--out", tmp_path / "gate",
        # Two models of six words each behave alike, and badly; and their clock is all noise.
        "--behaviour-margin", "1", "--behaviour-tolerance", "1", "--latency-slack-ms", "1000",
    )  # fmt: skip
    assert code == 0
    report = json.loads((tmp_path / "gate" / "gate.json").read_bytes())
    assert report["reasons"] == []
    assert report["verdict"] == "promote"
    assert report["champion"]["version"] == "champion"
    assert report["policy"]["latency_slack_ms"] == 1000
    assert (tmp_path / "gate" / "gate.md").read_text(encoding="utf-8").startswith("# Gate: promote")


def test_confirmations_weigh_what_this_cycle_counted(data: Path, tmp_path: Path) -> None:
    """1,000 predictions, 100 errors, 150 confirmed: a confirmation stands for six, also an old one.

    And 40 of 160 confirmations are held out, and 20 of 100 errors: they stand for the others too.
    """
    model = make_model_folder(tmp_path / "model")
    predictions = judging.predict_all(model, data)
    heldout = predictions.heldout
    assert heldout is not None
    assert heldout.counted
    assert heldout.weights.tolist() == [5.0] * 20 + [24.0] * 40
    (data / "cycle.json").write_text(json.dumps({"cycle": 2, "predictions": {}}))
    heldout = judging.predict_all(model, data).heldout
    assert heldout is not None
    assert not heldout.counted
    assert heldout.weights.tolist() == [1.0] * 60


def test_a_first_cycle_may_have_nothing_held_out(data: Path, tmp_path: Path) -> None:
    """An empty file is no error, and the golden set decides."""
    (data / "heldout.jsonl").write_bytes(b"")
    out = tmp_path / "predictions.json"
    model = make_model_folder(tmp_path / "model")
    assert _step("evaluate", "--data", data, "--model", model, "--out", out) == 0
    predictions = read_predictions(out)
    assert predictions.heldout is not None
    assert predictions.heldout.texts == ()
    assert predictions.latency.texts == 200
    assert _step("gate", "--champion", out, "--candidate", out, "--out", tmp_path / "gate") == 0
    report = json.loads((tmp_path / "gate" / "gate.json").read_bytes())
    assert [reason.partition(":")[0] for reason in report["reasons"]] == ["improvement"]


def test_the_served_file_is_what_is_judged(data: Path, tmp_path: Path) -> None:
    """Also with its version and the digest of its manifest; a damaged folder is refused."""
    model = make_model_folder(tmp_path / "model", "tiny-7")
    predictions = judging.predict_all(model, data)
    assert predictions.model.version == "tiny-7"
    assert len(predictions.model.sha256) == 64
    assert predictions.golden.probabilities.dtype == np.float64
    (model / "onnx" / "model.onnx").write_bytes(b"other")
    with pytest.raises(InvalidModel):
        judging.predict_all(model, data)


@pytest.mark.parametrize("name", ["golden.tsv", "heldout.jsonl", "feedback.jsonl", "cycle.json"])
def test_what_is_missing_is_named(data: Path, tmp_path: Path, name: str) -> None:
    """Rather than judged without."""
    (data / name).unlink()
    with pytest.raises(DataError, match="cannot be read") as caught:
        judging.predict_all(make_model_folder(tmp_path / "model"), data)
    assert caught.value.path == data / name


@pytest.mark.parametrize("damage", ["nan", "empty", "truncated"])
def test_a_file_that_says_nothing_usable_is_refused_with_a_report(tmp_path: Path, damage: str) -> None:
    """The pipeline goes on to record the refusal; it does not die half-way."""
    champion, candidate = make_pair(0, rows=400, asked=200)
    if damage == "nan":
        candidate = replace_set(candidate, "golden", probabilities=np.full((400, 3), np.nan))
    paths = [tmp_path / "champion.json", tmp_path / "candidate.json"]
    for path, file in zip(paths, (champion, candidate), strict=True):
        write_predictions(path, file)
    if damage == "empty":
        paths[1].write_bytes(b"")
    elif damage == "truncated":
        paths[1].write_bytes(paths[1].read_bytes()[:-200])
    code = _step("gate", "--champion", paths[0], "--candidate", paths[1], "--out", tmp_path / "gate")
    assert code == 0
    report = json.loads((tmp_path / "gate" / "gate.json").read_bytes())
    assert report["verdict"] == "refuse"
    assert report["reasons"][0].startswith("readable: candidate:")
    assert "# Gate: refuse" in (tmp_path / "gate" / "gate.md").read_text(encoding="utf-8")
    paths[1].unlink()
    shutil.rmtree(tmp_path / "gate")
    with pytest.raises(DataError, match="cannot be read"):
        _step("gate", "--champion", paths[0], "--candidate", paths[1], "--out", tmp_path / "gate")
    assert not (tmp_path / "gate").exists()


def test_a_number_that_cannot_be_is_named(tmp_path: Path) -> None:
    """Which option, what was given, and what it has to be."""
    with pytest.raises(SettingsError, match="--improvement-confidence '2'"):
        _step(
            "gate", "--champion", "a", "--candidate", "b", "--out", tmp_path, "--improvement-confidence", "2"
        )


def test_behaviour_shows_rates_and_examples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table by capability, failing cases below, all of them as JSON."""
    model, out = make_model_folder(tmp_path / "model"), tmp_path / "behaviour.json"
    assert main(["behaviour", "--model", str(model), "--json", str(out), "--examples", "1"]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[0].split() == ["capability", "kind", "cases", "failed", "rate"]
    assert "irony, MFT:" in said
    assert "(is negative)" in said
    report = msgspec.json.decode(out.read_bytes())
    assert report["model_version"] == "tiny-1"
    assert sum(each["cases"] for each in report["results"]) == sum(report["suite"]["rows"].values())
    negation = next(
        each for each in report["results"] if each["capability"] == "negation" and each["kind"] == "MFT"
    )
    assert negation["rate"] == len(negation["failed"]) / negation["cases"]
