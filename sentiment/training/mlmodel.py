"""`MLmodel`: what makes a model folder an MLflow model (onnx flavor)."""

from __future__ import annotations

import importlib.metadata
import shutil
from datetime import datetime
from pathlib import Path

import numpy as np
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec

from sentiment import manifest
from sentiment.records import LABELS

_REQUIREMENTS = ("mlflow", "onnx", "onnxruntime", "numpy", "pandas")


def write_mlmodel(folder: Path, now: datetime) -> None:
    """Write `MLmodel` and the environment files it names."""
    tokens = np.dtype(np.int64)
    signature = ModelSignature(
        inputs=Schema(
            [TensorSpec(tokens, (-1, -1), "input_ids"), TensorSpec(tokens, (-1, -1), "attention_mask")]
        ),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, len(LABELS)), "probabilities")]),
    )
    requirements = [f"{name}=={importlib.metadata.version(name)}" for name in _REQUIREMENTS]
    (folder / "requirements.txt").write_text("\n".join(requirements) + "\n", encoding="utf-8")
    python_version = "3.11"
    (folder / "python_env.yaml").write_text(
        f"python: '{python_version}'\nbuild_dependencies: []\ndependencies:\n- -r requirements.txt\n",
        encoding="utf-8",
    )
    model = Model(signature=signature, utc_time_created=now.strftime("%Y-%m-%d %H:%M:%S.%f"))
    model.add_flavor(
        "onnx",
        onnx_version=importlib.metadata.version("onnx"),
        data=manifest.ONNX,
        providers=["CPUExecutionProvider"],
        onnx_session_options=None,
    )
    model.add_flavor(
        "python_function",
        loader_module="mlflow.onnx",
        python_version=python_version,
        data=manifest.ONNX,
        env={"virtualenv": "python_env.yaml"},
    )
    model.save(str(folder / manifest.MLMODEL))
    # MLflow's pyfunc loader (`mlflow models serve`) looks for it beside the graph.
    shutil.copyfile(folder / manifest.MLMODEL, (folder / manifest.ONNX).with_name(manifest.MLMODEL))
