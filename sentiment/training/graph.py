"""From a torch classifier to the ONNX graph that serves: exported, fused, int8, calibrated."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers import optimizer
from transformers import PreTrainedModel

from sentiment.errors import ExportError

LOGITS = "logits"
PROBABILITIES = "probabilities"
_OPSET = 17


def write_float_graph(model: torch.nn.Module, path: Path, *, heads: int, width: int) -> None:
    """Export `model` (ids, mask -> logits) as float32 ONNX and fuse its layers.

    The fusions (attention, GELU, layer norms) come before quantisation: it is
    the fused operators that have fast int8 kernels.

    Raises:
        ExportError: the layers cannot be fused.
    """
    ids = torch.tensor([[101, 2293, 2023, 102], [101, 6283, 102, 0]])
    mask = (ids != 0).long()
    axes = {0: "texts", 1: "tokens"}
    # The plain implementation of attention is the one whose pattern the fusion knows.
    for part in model.modules():
        if isinstance(part, PreTrainedModel):
            part.set_attn_implementation("eager")
    with _quiet():
        torch.onnx.export(
            model,
            (ids, mask),
            str(path),
            input_names=["input_ids", "attention_mask"],
            output_names=[LOGITS],
            dynamic_axes={"input_ids": axes, "attention_mask": axes, LOGITS: {0: "texts"}},
            opset_version=_OPSET,
            dynamo=False,
        )
        fused = optimizer.optimize_model(
            str(path), model_type="bert", num_heads=heads, hidden_size=width, opt_level=0
        )
    if fused.get_fused_operator_statistics()["Attention"] == 0:
        raise ExportError(
            "the exporter wrote attention in a form that cannot be fused: check the pinned versions"
        )
    fused.save_model_to_file(str(path))


def quantise(source: Path, target: Path) -> None:
    """Write the int8 form of a float graph: weights per channel, embeddings too.

    The head keeps its floats: it is a thousandth of the work, and every answer
    passes through it last.
    """
    with _quiet():
        quantize_dynamic(
            source,
            target,
            per_channel=True,
            nodes_to_exclude=_head(onnx.load(source, load_external_data=False)),
            weight_type=QuantType.QInt8,
            # The fused operators are not ONNX's own, so their output types cannot be inferred.
            extra_options={"DefaultTensorType": TensorProto.FLOAT},
        )


def fold_temperature(path: Path, temperature: float) -> None:
    """Replace the output logits by probabilities = softmax(logits / temperature), in place."""
    model = onnx.load(path)
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.array(temperature, dtype=np.float32), "temperature"))
    graph.node.extend(
        [
            helper.make_node("Div", [LOGITS, "temperature"], ["calibrated_logits"], name="calibrate"),
            helper.make_node("Softmax", ["calibrated_logits"], [PROBABILITIES], name="softmax", axis=-1),
        ]
    )
    texts, classes = graph.output[0].type.tensor_type.shape.dim
    del graph.output[:]
    graph.output.append(
        helper.make_tensor_value_info(
            PROBABILITIES, TensorProto.FLOAT, [texts.dim_param or "texts", classes.dim_value or 3]
        )
    )
    onnx.save(model, path)


def _head(model: onnx.ModelProto) -> list[str]:
    """Return the names of the matrix products outside the encoder's layers."""
    names = [
        node.name
        for node in model.graph.node
        if node.op_type in ("MatMul", "Gemm") and "classifier" in node.name
    ]
    # The quantiser takes a Gemm apart first, and asks for the name of the part.
    return names + [f"{name}_MatMul" for name in names]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' notes on their own internals away from the person who trains."""
    noisy = [logging.getLogger(name) for name in ("", "onnxruntime.transformers", "onnxruntime.quantization")]
    levels = [logger.level for logger in noisy]
    for logger in noisy:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(noisy, levels, strict=True):
            logger.setLevel(level)
