"""From a trained classifier to a finished model folder, refused if it lost accuracy on the way."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from msgspec import Struct
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from sentiment import manifest
from sentiment.classifier import Classifier, Probabilities
from sentiment.errors import DataError, ExportError
from sentiment.evaluation.data import LabelledTweets
from sentiment.evaluation.metrics import Metrics, evaluate, expected_calibration_error, fit_temperature
from sentiment.records import LABELS, DataFingerprint, Manifest
from sentiment.training import cards
from sentiment.training.batching import pad, tokenise
from sentiment.training.graph import LOGITS as LOGITS_OUTPUT
from sentiment.training.graph import fold_temperature, quantise, write_float_graph
from sentiment.training.inference import Logits, logits
from sentiment.training.mlmodel import write_mlmodel

#: How much macro-recall the exported file may lose against the model it was made
#: from, on the validation tweets (0.3 points) ...
MOST_LOST = 0.003
#: ... but where that is less than two tweets of the rarest class, so many standard errors
#: of the difference: on a few hundred tweets rounding moves some answers, as many to
#: the good as to the bad, and 0.3 points cannot be told from chance. The gate judges
#: the file itself once more, on other tweets.
FEWEST_TWEETS = 2
CHANCE_ERRORS = 3.0

LogitsTable = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int64]


class Trained(Struct, frozen=True, eq=False):
    """What a recipe hands over: a torch model (ids, mask -> logits) and what to say of it."""

    recipe: str
    settings: dict[str, Any]
    model: torch.nn.Module
    tokenizer: Tokenizer
    config: dict[str, Any]
    parent: str | None = None


class ExportReport(Struct, frozen=True, kw_only=True):
    """`metrics.json`: the file that serves, judged on the validation tweets."""

    validation: Metrics
    #: Macro-recall of the torch model in float32, on the same tweets.
    float_macro_recall: float
    temperature: float
    expected_calibration_error_before: float


def export(
    trained: Trained,
    learned: dict[str, DataFingerprint],
    validation: LabelledTweets,
    out: Path,
    *,
    now: datetime,
    note: str = "",
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[Manifest, ExportReport]:
    """Write the model folder `out`: all of it, or nothing.

    `learned` is what it was trained on, by role. `note` goes into the model card:
    how the settings were chosen.

    Raises:
        DataError: `out` exists and is not empty.
        ExportError: the exported file lost more macro-recall than `allowed_loss`.
    """
    if out.exists() and any(out.iterdir()):
        raise DataError(out, 0, "exists and is not empty: name another folder, or remove it first")
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        result = _write(trained, learned, validation, partial, now, note, progress)
        # So does mkdtemp.
        partial.chmod(0o755)
        if out.exists():
            out.rmdir()
        partial.rename(out)
        return result
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write(
    trained: Trained,
    learned: dict[str, DataFingerprint],
    validation: LabelledTweets,
    folder: Path,
    now: datetime,
    note: str,
    progress: Callable[[str], None],
) -> tuple[Manifest, ExportReport]:
    progress("writing weights and tokenizer")
    _write_torch_files(trained, folder)
    progress("exporting the graph, fusing it, making it int8")
    token_ids = tokenise(trained.tokenizer, validation.texts)
    before, temperature = _write_graph(trained, token_ids, validation, folder)
    write_mlmodel(folder, now)
    digest = hashlib.sha256((folder / manifest.ONNX).read_bytes()).hexdigest()
    version = f"{trained.recipe}-{now:%Y%m%d}-{digest[:8]}"

    def seal() -> Manifest:
        names = sorted(
            path.relative_to(folder).as_posix()
            for path in folder.rglob("*")
            if path.is_file() and path.name != manifest.MANIFEST
        )
        record = Manifest(
            version=version,
            created_at=now.isoformat(timespec="seconds"),
            recipe=trained.recipe,
            settings=trained.settings,
            data=learned | {"validation": validation.fingerprint},
            parent=trained.parent,
            files={name: manifest.fingerprint(folder / name) for name in names},
        )
        (folder / manifest.MANIFEST).write_bytes(manifest.encode_manifest(record))
        return record

    # Sealed twice: what is measured is what the door that serves makes of the folder.
    (folder / manifest.METRICS).write_text("{}\n", encoding="utf-8")
    seal()
    progress("comparing the exported file with the trained model on every validation tweet")
    served = Classifier.load(folder).probabilities(validation.texts)
    reference = logits(trained.model, token_ids, torch.device("cpu"))
    report = check_parity(served, reference, before, temperature, validation)
    (folder / manifest.METRICS).write_bytes(
        msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"
    )
    (folder / manifest.MODEL_CARD).write_text(
        cards.render(trained, version, now, learned, validation, report, note),
        encoding="utf-8",
    )
    return seal(), report


def check_parity(
    served: Probabilities,
    reference: LogitsTable,
    before: LogitsTable,
    temperature: float,
    validation: LabelledTweets,
) -> ExportReport:
    """Judge the file that serves against the model it was made from.

    `served` are its probabilities, `reference` the logits of the torch model,
    `before` its own logits without temperature; all of shape (tweets, 3).

    Raises:
        ExportError: it lost more macro-recall than `allowed_loss`.
    """
    metrics = evaluate(served, validation.labels)
    float_recall = evaluate(_softmax(reference), validation.labels).macro_recall
    lost = float_recall - metrics.macro_recall
    allowed = allowed_loss(served.argmax(axis=1), reference.argmax(axis=1), validation.labels)
    if not lost <= allowed:
        raise ExportError(
            f"the exported file has a macro-recall of {metrics.macro_recall:.4f} "
            f"on {validation.fingerprint.name}, the trained model {float_recall:.4f}: "
            f"at most {allowed:.4f} may be lost. Nothing was written; "
            "train with other settings (for recipe linear: a smaller --inverse-penalty)."
        )
    return ExportReport(
        validation=metrics,
        float_macro_recall=float_recall,
        temperature=temperature,
        expected_calibration_error_before=expected_calibration_error(_softmax(before), validation.labels),
    )


def allowed_loss(served: Positions, reference: Positions, labels: Positions) -> float:
    """Return how much macro-recall the labels `served` may lose against `reference`.

    All of shape (tweets,): positions in `LABELS`. The standard error is that of a
    difference of paired proportions, class by class, in which rounding fixes and
    breaks alike (McNemar, 1947).
    """
    rows = np.bincount(labels, minlength=len(LABELS))
    present = rows > 0
    classes = present.sum()
    if FEWEST_TWEETS / rows[present].min() / classes <= MOST_LOST:
        return MOST_LOST
    moved = np.bincount(labels[(served == labels) != (reference == labels)], minlength=len(LABELS))
    error = np.sqrt((moved[present] / rows[present] ** 2).sum()) / classes
    return max(MOST_LOST, FEWEST_TWEETS / rows[present].min() / classes, float(CHANCE_ERRORS * error))


def _write_torch_files(trained: Trained, folder: Path) -> None:
    config = trained.config | {"dtype": "float32"}
    (folder / manifest.CONFIG).write_bytes(msgspec.json.format(msgspec.json.encode(config), indent=2) + b"\n")
    weights = {name: weight.half().contiguous() for name, weight in trained.model.state_dict().items()}
    save_file(weights, folder / manifest.WEIGHTS, metadata={"format": "pt"})
    # safetensors writes for the owner alone; a model folder is for everyone who may read its parent.
    (folder / manifest.WEIGHTS).chmod(0o644)
    # transformers reads this beside tokenizer.json; it would reset padding and truncation if it wrote both.
    truncation = trained.tokenizer.truncation
    assert truncation is not None, "load_base sets it"
    PreTrainedTokenizerFast(
        tokenizer_object=trained.tokenizer,
        model_max_length=truncation["max_length"],
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        unk_token="[UNK]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(folder)
    trained.tokenizer.save(str(folder / manifest.TOKENIZER))


def _write_graph(
    trained: Trained, token_ids: list[list[int]], validation: LabelledTweets, folder: Path
) -> tuple[LogitsTable, float]:
    """Write the int8 graph; return its logits on the validation tweets and the temperature folded in."""
    target = folder / manifest.ONNX
    target.parent.mkdir()
    with tempfile.TemporaryDirectory() as scratch:
        float_graph = Path(scratch) / "float.onnx"
        write_float_graph(
            Logits(trained.model.float().cpu().eval()),
            float_graph,
            heads=trained.config["n_heads"],
            width=trained.config["dim"],
        )
        quantise(float_graph, target)
    before = _graph_logits(target, token_ids)
    temperature = fit_temperature(before, validation.labels)
    fold_temperature(target, temperature)
    return before, temperature


def _graph_logits(path: Path, token_ids: list[list[int]]) -> LogitsTable:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    result = np.empty((len(token_ids), len(LABELS)), dtype=np.float32)
    for row, tokens in enumerate(token_ids):
        # One by one, as they are served: in a batch, int8 answers depend on the neighbours.
        ids, mask = pad([tokens])
        result[row] = session.run(
            [LOGITS_OUTPUT], {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}
        )[0][0]
    return result


def _softmax(logits: LogitsTable) -> Probabilities:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: Probabilities = weights / weights.sum(axis=1, keepdims=True)
    return probabilities
