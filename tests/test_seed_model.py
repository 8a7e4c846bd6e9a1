"""The model a fresh clone starts with: small enough, complete, and the same by every door."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sentiment.classifier import Classifier
from sentiment.commands.predict import SEED_MODEL
from sentiment.manifest import ONNX, TOKENIZER, read_manifest, verify
from sentiment.text import normalise

TEXTS = [
    "I love how this turned out!",
    "Worst flight ever, never again @airline",
    "The train leaves at 9 from platform 4",
    "so happy 😂😂 https://t.co/x",
]


def test_the_seed_model_is_whole_and_small() -> None:
    """Every file is what the manifest vouches for; a clone stays light."""
    record, _ = read_manifest(SEED_MODEL)
    verify(SEED_MODEL, record)
    assert (SEED_MODEL / ONNX).stat().st_size <= 24 * 2**20
    assert sum(path.stat().st_size for path in SEED_MODEL.rglob("*")) <= 70_000_000


def test_the_seed_model_reads_tweets() -> None:
    """What anybody would say of them."""
    predictions = Classifier.load(SEED_MODEL).predict(TEXTS)
    assert [prediction.label for prediction in predictions] == ["positive", "negative", "neutral", "positive"]
    assert not any(prediction.truncated for prediction in predictions)


def test_the_seed_model_is_as_good_as_its_card_says() -> None:
    """The figures in the folder are the ones that were asked for."""
    metrics = json.loads((SEED_MODEL / "metrics.json").read_bytes())
    assert metrics["validation"]["macro_recall"] >= 0.735
    assert metrics["validation"]["expected_calibration_error"] <= 0.05
    assert metrics["float_macro_recall"] - metrics["validation"]["macro_recall"] <= 0.003


@pytest.mark.training
@pytest.mark.filterwarnings("ignore:.*type hint.*:UserWarning")
def test_mlflow_loads_the_seed_model() -> None:
    """`MLmodel` is real: the same graph, the same answers."""
    import mlflow.onnx
    import mlflow.pyfunc
    from tokenizers import Tokenizer

    classifier = Classifier.load(SEED_MODEL)
    graph = mlflow.onnx.load_model(str(SEED_MODEL))
    assert [output.name for output in graph.graph.output] == ["probabilities"]
    model = mlflow.pyfunc.load_model(str(SEED_MODEL))
    tokenizer = Tokenizer.from_file(str(SEED_MODEL / TOKENIZER))
    for text in TEXTS:
        ids = np.array([tokenizer.encode(normalise(text)).ids], dtype=np.int64)
        answer = model.predict({"input_ids": ids, "attention_mask": np.ones_like(ids)})
        np.testing.assert_allclose(answer["probabilities"], classifier.probabilities([text]), atol=1e-6)


@pytest.mark.training
def test_transformers_loads_the_seed_model() -> None:
    """The weights to train on are those of the file that serves, up to int8 and temperature."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(SEED_MODEL).eval()
    tokenizer = AutoTokenizer.from_pretrained(SEED_MODEL)
    temperature = json.loads((SEED_MODEL / "metrics.json").read_bytes())["temperature"]
    inputs = tokenizer([normalise(text) for text in TEXTS], padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = torch.softmax(model(**inputs).logits / temperature, dim=-1).numpy()
    served = Classifier.load(SEED_MODEL).probabilities(TEXTS)
    np.testing.assert_allclose(served, expected, atol=0.1)
    assert (served.argmax(axis=1) == expected.argmax(axis=1)).all()
    assert model.config.id2label == {0: "negative", 1: "neutral", 2: "positive"}
