"""A model folder small enough to make in every test: a few kilobytes, complete, and it really answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordLevel

from sentiment.manifest import (
    CONFIG,
    MANIFEST,
    METRICS,
    MLMODEL,
    MODEL_CARD,
    ONNX,
    TOKENIZER,
    WEIGHTS,
    encode_manifest,
    fingerprint,
)
from sentiment.records import LABELS, DataFingerprint, Label, Manifest

#: The words that the model knows; each pulls its text towards one label.
WORDS: dict[str, Label] = {
    "awful": "negative",
    "hate": "negative",
    "bus": "neutral",
    "train": "neutral",
    "love": "positive",
    "wonderful": "positive",
}

#: How many tokens the model reads.
LENGTH = 16

_WORD_WEIGHT = 4.0
_BIAS_WEIGHT = 1.0


def make_model_folder(
    folder: Path,
    version: str = "tiny-1",
    bias: Label = "neutral",
    *,
    macro_recall: float = 0.5,
    created_at: str = "2025-01-01T00:00:00+00:00",
    parent: str | None = None,
) -> Path:
    """Write a valid model folder and return it; the same arguments make the same bytes.

    The model adds up what the `WORDS` of a text stand for. A text without any is
    given the label `bias`, which is how a test tells one version from another.
    """
    (folder / ONNX).parent.mkdir(parents=True)
    labels = dict(enumerate(LABELS))
    config = {"model_type": "tiny", "id2label": labels, "label2id": {label: i for i, label in labels.items()}}
    (folder / CONFIG).write_text(json.dumps(config), encoding="utf-8")
    (folder / TOKENIZER).write_text(_tokenizer().to_str(), encoding="utf-8")
    (folder / ONNX).write_bytes(_graph(bias))
    (folder / WEIGHTS).write_bytes(_safetensors({"table": _table(), "bias": _bias(bias)}))
    (folder / METRICS).write_text(
        json.dumps({"validation": {"macro_recall": macro_recall}}), encoding="utf-8"
    )
    (folder / MLMODEL).write_text(f"flavors:\n  onnx:\n    data: {ONNX}\n", encoding="utf-8")
    (folder / MODEL_CARD).write_text(f"# {version}\n\nAdds up {len(WORDS)} words.\n", encoding="utf-8")
    return seal(folder, version, created_at=created_at, parent=parent)


def seal(
    folder: Path,
    version: str,
    *,
    created_at: str = "2025-01-01T00:00:00+00:00",
    parent: str | None = None,
) -> Path:
    """Write the manifest of whatever is in `folder` now, and return the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    record = Manifest(
        version=version,
        created_at=created_at,
        recipe="tiny",
        settings={},
        data={"train": DataFingerprint(name="words", sha256="0" * 64, rows=dict.fromkeys(LABELS, 2))},
        parent=parent,
        files={path.relative_to(folder).as_posix(): fingerprint(path) for path in files},
    )
    (folder / MANIFEST).write_bytes(encode_manifest(record))
    return folder


def _tokenizer() -> Tokenizer:
    vocabulary = {word: number for number, word in enumerate(("[PAD]", "[UNK]", *WORDS))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_truncation(LENGTH)
    return tokenizer


def _table() -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    table = np.zeros((len(WORDS) + 2, len(LABELS)), dtype=np.float32)
    for row, label in enumerate(WORDS.values(), start=2):
        table[row, LABELS.index(label)] = _WORD_WEIGHT
    return table


def _bias(label: Label) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    bias = np.zeros(len(LABELS), dtype=np.float32)
    bias[LABELS.index(label)] = _BIAS_WEIGHT
    return bias


def _graph(bias: Label) -> bytes:
    """Return probabilities = softmax(sum over tokens of mask * table[id] + bias) as ONNX."""
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
            helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
            helper.make_node("Mul", ["rows", "column"], ["kept"]),
            helper.make_node("ReduceSum", ["kept", "tokens"], ["sums"], keepdims=0),
            helper.make_node("Add", ["sums", "bias"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
        ],
        "tiny",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["texts", "tokens"])
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["texts", len(LABELS)])],
        [
            numpy_helper.from_array(_table(), "table"),
            numpy_helper.from_array(_bias(bias), "bias"),
            numpy_helper.from_array(np.array([-1], dtype=np.int64), "last"),
            numpy_helper.from_array(np.array([1], dtype=np.int64), "tokens"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def _safetensors(tensors: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]) -> bytes:
    """Return `tensors` in the safetensors format: length of the header, header, data."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, tensor in tensors.items():
        start, data = len(data), data + tensor.tobytes()
        header[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [start, len(data)]}
    encoded = json.dumps(header).encode()
    return len(encoded).to_bytes(8, "little") + encoded + data
