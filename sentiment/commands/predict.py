"""``predict``: answers in the terminal, from the classifier that serves."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import msgspec

from sentiment.errors import InvalidInput
from sentiment.records import LABELS, Prediction
from sentiment.text import check_text

#: The model a fresh clone starts with.
SEED_MODEL = Path(__file__).resolve().parents[2] / "seed-model"

_BATCH = 64


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "predict", help="classify texts", description="Classify texts in the terminal."
    )
    parser.add_argument(
        "texts", nargs="+", metavar="TEXT", help="a text; - reads one a line from standard input"
    )
    parser.add_argument("--model", type=Path, default=SEED_MODEL, help="model folder (default: seed-model)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from sentiment.classifier import Classifier

    classifier = Classifier.load(options.model)
    code = 0
    texts = _texts(options.texts)
    while batch := list(islice(texts, _BATCH)):
        good: list[tuple[str, str]] = []
        for place, text in batch:
            try:
                check_text(text)
            except InvalidInput as error:
                print(f"error: {place}: {error}", file=sys.stderr)
                code = 1
            else:
                good.append((place, text))
        predictions = classifier.predict([text for _, text in good])
        for (_, text), prediction in zip(good, predictions, strict=True):
            print(_as_json(text, prediction) if options.json else _as_line(text, prediction))
    return code


def _texts(arguments: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield (where it came from, text)."""
    for number, argument in enumerate(arguments, start=1):
        if argument != "-":
            yield f"text {number}", argument
            continue
        for line_number, line in enumerate(sys.stdin.buffer, start=1):
            line = line.rstrip(b"\r\n")
            if line:
                yield f"line {line_number}", line.decode("utf-8", "surrogateescape")


def _as_json(text: str, prediction: Prediction) -> str:
    return msgspec.json.encode({"text": text, **msgspec.structs.asdict(prediction)}).decode()


def _as_line(text: str, prediction: Prediction) -> str:
    scores = "  ".join(f"{label} {getattr(prediction.scores, label):.3f}" for label in LABELS)
    cut = "  (cut off: longer than the model reads)" if prediction.truncated else ""
    return f"{prediction.label:<8}  {scores}  {' '.join(text.split())}{cut}"
