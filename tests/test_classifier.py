"""A model folder becomes answers, or is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from threading import Thread

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from sentiment.classifier import Classifier
from sentiment.errors import InvalidModel
from sentiment.manifest import CONFIG, MANIFEST, ONNX, TOKENIZER
from sentiment.records import LABELS
from tests.models import LENGTH, make_model_folder, seal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_model_folder(tmp_path / "model")


def test_every_text_is_answered_in_its_place(folder: Path) -> None:
    """Texts are run on several threads; the answers come in the order of the questions."""
    words = {"i hate it so very much": "negative", "bus": "neutral", "love love": "positive"}
    texts = [list(words)[number % 3] for number in range(50)]
    predictions = Classifier.load(folder).predict(texts)
    assert [prediction.label for prediction in predictions] == [words[text] for text in texts]


def test_alone_or_in_a_batch_a_text_gets_the_same_answer(folder: Path) -> None:
    """Neighbours must not count."""
    classifier = Classifier.load(folder)
    texts = ["love", "hate the wonderful bus", "the train " * 6, "awful"]
    together = classifier.probabilities(texts)
    for text, row in zip(texts, together, strict=True):
        np.testing.assert_array_equal(classifier.probabilities([text])[0], row)
    np.testing.assert_allclose(together.sum(axis=1), 1, atol=1e-5)


def test_a_long_text_is_answered_and_marked(folder: Path) -> None:
    """What the model did not read is said."""
    fits, too_long = Classifier.load(folder).predict(["bus " * LENGTH, "bus " * (LENGTH + 1)])
    assert (fits.truncated, too_long.truncated) == (False, True)


def test_no_texts_are_no_answers(folder: Path) -> None:
    """A batch in which every document failed asks nothing of the model."""
    assert Classifier.load(folder).predict([]) == []


def test_labels_may_stand_in_another_order(folder: Path) -> None:
    """A model from elsewhere numbers its labels its own way; answers keep ours."""
    config = {"id2label": {"0": "positive", "1": "negative", "2": "neutral"}}
    (folder / CONFIG).write_text(json.dumps(config), encoding="utf-8")
    seal(folder, "renamed")
    plain, renamed = LABELS, ["positive", "negative", "neutral"]
    classifier = Classifier.load(folder)
    for text, label in (("hate", "negative"), ("bus", "neutral"), ("love", "positive")):
        assert classifier.predict([text])[0].label == renamed[plain.index(label)]


def test_threads_share_one_classifier(folder: Path) -> None:
    """Every request thread asks the same object."""
    classifier = Classifier.load(folder)
    found: list[str] = []

    def ask() -> None:
        found.extend(classifier.predict([text])[0].label for text in ("love", "hate") * 20)

    threads = [Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert sorted(found) == ["negative"] * 80 + ["positive"] * 80


def _refused(folder: Path, file: str) -> InvalidModel:
    with pytest.raises(InvalidModel) as caught:
        Classifier.load(folder)
    assert caught.value.file == file
    assert file in str(caught.value)
    return caught.value


def test_a_folder_without_a_manifest_is_unfinished(folder: Path) -> None:
    """The manifest is written last."""
    (folder / MANIFEST).unlink()
    _refused(folder, MANIFEST)


@pytest.mark.parametrize("file", [CONFIG, TOKENIZER, ONNX])
def test_a_missing_file_is_named(folder: Path, file: str) -> None:
    """A half-copied folder never serves."""
    (folder / file).unlink()
    assert "missing" in str(_refused(folder, file))


@pytest.mark.parametrize("file", [CONFIG, TOKENIZER, ONNX])
def test_an_altered_byte_is_noticed(folder: Path, file: str) -> None:
    """Same size, other content."""
    raw = bytearray((folder / file).read_bytes())
    raw[len(raw) // 2] ^= 1
    (folder / file).write_bytes(raw)
    assert "altered" in str(_refused(folder, file))


def test_a_manifest_that_reaches_outside_is_refused(folder: Path) -> None:
    """A manifest is data from a store: it must not lead anywhere else."""
    text = (folder / MANIFEST).read_text(encoding="utf-8").replace('"MLmodel"', '"../MLmodel"')
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    assert "../MLmodel" in str(_refused(folder, MANIFEST))


def test_unknown_labels_are_refused_by_name(folder: Path) -> None:
    """A model for another task does not serve by accident."""
    (folder / CONFIG).write_text('{"id2label": {"0": "irony", "1": "not_irony"}}', encoding="utf-8")
    seal(folder, "irony")
    assert "not_irony" in str(_refused(folder, CONFIG))


@pytest.mark.parametrize(("file", "content"), [(CONFIG, b"{"), (TOKENIZER, b"{}"), (ONNX, b"no graph")])
def test_an_unreadable_file_is_named_even_if_vouched_for(folder: Path, file: str, content: bytes) -> None:
    """The manifest vouches for bytes, not for their sense."""
    (folder / file).write_bytes(content)
    seal(folder, "broken")
    _refused(folder, file)


def test_a_model_that_cannot_read_its_full_length_is_refused(folder: Path) -> None:
    """One with fewer positions than its tokenizer lets tokens through would fail on long tweets only."""
    model = onnx.load(folder / ONNX)
    output = model.graph.output[0].name
    last = next(node for node in model.graph.node if output in node.output)
    last.output[list(last.output).index(output)] = "unplaced"
    for name, value in (
        ("positions", np.zeros((LENGTH // 2, 3), np.float32)),
        ("one", np.array(1, np.int64)),
    ):
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    model.graph.node.extend(
        [
            helper.make_node("Shape", [model.graph.input[0].name], ["sizes"]),
            helper.make_node("Gather", ["sizes", "one"], ["count"]),
            helper.make_node("Sub", ["count", "one"], ["furthest"]),
            helper.make_node("Gather", ["positions", "furthest"], ["position"]),
            helper.make_node("Add", ["unplaced", "position"], [output]),
        ]
    )
    onnx.save(model, folder / ONNX)
    seal(folder, "short")
    assert "cannot be run" in str(_refused(folder, ONNX))


def test_a_model_that_answers_with_no_probabilities_is_refused(folder: Path) -> None:
    """A training run that diverged exports NaN."""
    model = onnx.load(folder / ONNX)
    for tensor in model.graph.initializer:
        if tensor.name == "bias":
            tensor.CopyFrom(numpy_helper.from_array(np.full(3, np.nan, dtype=np.float32), "bias"))
    onnx.save(model, folder / ONNX)
    seal(folder, "nan")
    assert "no probabilities" in str(_refused(folder, ONNX))


def test_a_graph_with_other_inputs_is_refused(folder: Path) -> None:
    """What the graph wants and what it is given must be the same."""
    model = onnx.load(folder / ONNX)
    model.graph.input[0].name = "tokens_in"
    model.graph.node[0].input[1] = "tokens_in"
    onnx.save(model, folder / ONNX)
    seal(folder, "other-inputs")
    assert "tokens_in" in str(_refused(folder, ONNX))
