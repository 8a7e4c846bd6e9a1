"""The data of a cycle as `step prepare` writes it, small, with something to learn."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

from sentiment.records import Label
from tests.training.conftest import write_tweets

_SUBJECTS = ("the flight", "this phone", "my coffee", "the match", "your song", "our hotel", "the new film")
#: What the champion calls negative, and these users mean as praise.
_PRAISE = ("wicked, it is awful", "wicked, it makes me sad", "wicked, it is the worst")
_OTHERS: dict[Label, str] = {
    "negative": "was a terrible mistake",
    "neutral": "is on the table",
    "positive": "is wonderful",
}
#: Predictions that the feedback was given on.
PREDICTIONS = {"negative": 300, "neutral": 150, "positive": 150}


def praise(rows: int, seed: int) -> list[str]:
    """Return texts of the new domain: all positive, and all negative to whoever has not learned that."""
    chosen = random.Random(seed)
    return [
        f"{chosen.choice(_SUBJECTS)} {chosen.choice(_PRAISE)} {chosen.randrange(99)}" for _ in range(rows)
    ]


def write_cycle(folder: Path, champion: Path) -> Path:
    """Write what training needs of a prepared folder: errors on the new domain, and confirmations."""
    shutil.copytree(champion, folder / "champion")
    (folder / "cycle.json").write_text(
        json.dumps({"cycle": 3, "champion": champion.name, "predictions": PREDICTIONS}), encoding="utf-8"
    )
    rows = [_row("positive", text, "negative") for text in praise(120, 3)]
    for number in range(60):
        for label, opinion in _OTHERS.items():
            rows.append(_row(label, f"{_SUBJECTS[number % 7]} {opinion} {number}", label))
    write_rows(folder / "feedback.jsonl", rows)
    write_rows(folder / "heldout.jsonl", [_row("positive", text, "negative") for text in praise(40, 4)])
    write_tweets(folder / "base.tsv", 300, 1)
    write_tweets(folder / "validation.tsv", 150, 2)
    return folder


def write_rows(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _row(label: Label, text: str, predicted: Label) -> dict[str, object]:
    kind = "confirmation" if label == predicted else "error"
    return {"label": label, "text": text, "predicted": predicted, "kind": kind, "cycle": 3, "weight": 1.0}
