"""A model folder becomes answers.

Reads the exported ONNX graph and the tokenizer directly: nothing is unpickled
and no code of a model folder is ever run.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import onnxruntime
from msgspec import Struct
from tokenizers import Encoding, Tokenizer

from sentiment import manifest
from sentiment.errors import InvalidModel
from sentiment.records import LABELS, Prediction, Scores
from sentiment.text import normalise

Probabilities = npt.NDArray[np.float32]
Tokens = dict[str, npt.NDArray[np.int64]]

_INPUTS = {"input_ids", "attention_mask"}
_OUTPUT = "probabilities"
_SUM_TOLERANCE = 1e-3


class _Config(Struct, frozen=True):
    """What serving reads of `config.json`."""

    id2label: dict[str, str]


class Classifier:
    """Answers texts with the model of one folder; safe to share between threads."""

    def __init__(
        self,
        version: str,
        tokenizer: Tokenizer,
        sessions: tuple[onnxruntime.InferenceSession, onnxruntime.InferenceSession],
        columns: Sequence[int],
        threads: int,
    ) -> None:
        self.version = version
        self._tokenizer = tokenizer
        # The same graph twice, with the same answers to the last bit: for a text that
        # comes alone, and for texts that share the cores.
        self._all_cores, self._one_core = sessions
        # Where each of LABELS stands among the graph's outputs.
        self._columns = list(columns)
        # Makes its threads when a batch first needs them.
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="classifier")
        self._runs = _Runs()

    @classmethod
    def load(cls, folder: Path, *, threads: int = 0) -> Classifier:
        """Verify and load the model in `folder`.

        `threads` is how many cores are used at once, by one text or several; 0 means all.

        Raises:
            InvalidModel: the manifest is missing or does not match, a file is
                missing or unreadable, or the labels are not the three we know.
        """
        record, _ = manifest.read_manifest(folder)
        manifest.verify(folder, record, manifest.SERVING_FILES)
        columns = _columns(folder)
        try:
            tokenizer = Tokenizer.from_file(str(folder / manifest.TOKENIZER))
        except Exception as error:  # tokenizers raises bare Exception
            raise InvalidModel(folder, manifest.TOKENIZER, f"is no tokenizer: {error}") from error
        truncation = tokenizer.truncation
        if truncation is None:
            raise InvalidModel(folder, manifest.TOKENIZER, "does not say how many tokens the model reads")
        tokenizer.no_padding()
        threads = threads or os.cpu_count() or 1
        one_core = open_session(folder)
        all_cores = one_core if threads == 1 else open_session(folder, threads)
        classifier = cls(record.version, tokenizer, (all_cores, one_core), columns, threads)
        classifier._check(folder, truncation["max_length"])
        return classifier

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """Classify `texts`; one `Prediction` each, in their order."""
        encodings = self._encode(texts)
        # Six decimals: more than the model knows, and short to read.
        rows = [[round(value, 6) for value in row] for row in self._run(encodings).tolist()]
        return [
            Prediction(
                label=LABELS[row.index(max(row))],
                scores=Scores(*row),
                truncated=bool(encoding.overflowing),
            )
            for row, encoding in zip(rows, encodings, strict=True)
        ]

    def probabilities(self, texts: Sequence[str]) -> Probabilities:
        """Return the calibrated probabilities of `texts`: shape (texts, 3), columns as `LABELS`."""
        return self._run(self._encode(texts))

    def feeds(self, texts: Sequence[str]) -> list[Tokens]:
        """Return what the graph is fed for each of `texts`."""
        return [_feed(encoding) for encoding in self._encode(texts)]

    def _check(self, folder: Path, max_tokens: int) -> None:
        """Answer a short text and one of full length: a graph that loads may still not run.

        It may lack positions for all the tokens that its tokenizer lets through, or
        answer with no probabilities. It also warms the session up, so that the first
        caller does not pay for it.
        """
        try:
            rows = self.probabilities(["ready", "ready " * max_tokens])
        except Exception as error:  # onnxruntime's exceptions share no base class but this one
            raise InvalidModel(folder, manifest.ONNX, f"cannot be run: {error}") from error
        for row in rows:
            if not (
                np.isfinite(row).all() and (row >= 0).all() and abs(float(row.sum()) - 1) < _SUM_TOLERANCE
            ):
                raise InvalidModel(
                    folder, manifest.ONNX, f"answers with {row.tolist()}, which are no probabilities"
                )

    def _encode(self, texts: Sequence[str]) -> list[Encoding]:
        if len(texts) == 1:
            return [self._tokenizer.encode(normalise(texts[0]))]
        encodings: list[Encoding] = self._tokenizer.encode_batch([normalise(text) for text in texts])
        return encodings

    def _run(self, encodings: Sequence[Encoding]) -> Probabilities:
        # Each text on its own: the int8 graph scales its activations by the largest in
        # the batch, so together a text's answer would depend on its neighbours. Several
        # at once on a thread each are also faster than one padded batch on all cores.
        with self._runs.begun() as alone:
            if len(encodings) == 1:
                rows = [_answer(self._all_cores if alone else self._one_core, _feed(encodings[0]))]
            else:
                rows = list(self._pool.map(partial(_answer, self._one_core), map(_feed, encodings)))
        if not rows:
            return np.empty((0, len(LABELS)), dtype=np.float32)
        return np.concatenate(rows)[:, self._columns]


class _Runs:
    """Counts what runs now, so that a text that comes alone may have all cores."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0

    @contextmanager
    def begun(self) -> Iterator[bool]:
        """Count one more while the context lasts; give whether it was alone when it began."""
        with self._lock:
            alone = self._running == 0
            self._running += 1
        try:
            yield alone
        finally:
            with self._lock:
                self._running -= 1


def _answer(session: onnxruntime.InferenceSession, feed: Tokens) -> Probabilities:
    probabilities: Probabilities = session.run([_OUTPUT], feed)[0]
    return probabilities


def _feed(encoding: Encoding) -> Tokens:
    return {
        "input_ids": np.array([encoding.ids], dtype=np.int64),
        "attention_mask": np.ones((1, len(encoding)), dtype=np.int64),
    }


def _columns(folder: Path) -> list[int]:
    """Return the output column of each of `LABELS`."""
    try:
        config = msgspec.json.decode((folder / manifest.CONFIG).read_bytes(), type=_Config)
        by_label = {label: int(column) for column, label in config.id2label.items()}
    except (msgspec.DecodeError, ValueError) as error:
        raise InvalidModel(folder, manifest.CONFIG, f"cannot be read: {error}") from error
    if set(by_label) != set(LABELS) or sorted(by_label.values()) != [0, 1, 2]:
        raise InvalidModel(
            folder, manifest.CONFIG, f"has the labels {sorted(by_label)}, this service knows {sorted(LABELS)}"
        )
    return [by_label[label] for label in LABELS]


def open_session(folder: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """Open the graph of a model folder, to be run on so many threads (0: one per core).

    Raises:
        InvalidModel: it cannot be loaded, or has other inputs or outputs than ours.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        session: Any = onnxruntime.InferenceSession(
            str(folder / manifest.ONNX), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's exceptions share no base class but this one
        raise InvalidModel(folder, manifest.ONNX, f"cannot be loaded: {error}") from error
    inputs = {argument.name for argument in session.get_inputs()}
    outputs = {argument.name: argument.shape for argument in session.get_outputs()}
    if inputs != _INPUTS or _OUTPUT not in outputs or outputs[_OUTPUT][-1] != len(LABELS):
        raise InvalidModel(
            folder,
            manifest.ONNX,
            f"has inputs {sorted(inputs)} and outputs {outputs}; "
            f"needed: {sorted(_INPUTS)} and {_OUTPUT!r} of shape (texts, {len(LABELS)})",
        )
    return session
