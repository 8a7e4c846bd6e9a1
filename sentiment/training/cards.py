"""`model-card.md`: what a model is, for people.

After Mitchell et al., 2019, "Model Cards for Model Reporting".
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from sentiment.evaluation.data import LabelledTweets
from sentiment.evaluation.rendering import render_markdown
from sentiment.records import DataFingerprint

if TYPE_CHECKING:
    from sentiment.training.export import ExportReport, Trained

_RECIPES = {
    "distilbert": "A DistilBERT sequence classifier, every weight fine-tuned.",
    "relearn": "A DistilBERT sequence classifier that went on learning from what its users corrected.",
    "linear": "A logistic regression on the mean-pooled embeddings of a frozen DistilBERT encoder.",
}


def render(
    trained: Trained,
    version: str,
    now: datetime,
    learned: dict[str, DataFingerprint],
    validation: LabelledTweets,
    report: ExportReport,
    note: str,
) -> str:
    """Return the model card as Markdown."""
    rows = "\n".join(f"| {name} | {value} |" for name, value in trained.settings.items())
    data = "\n".join(_describe(name.capitalize(), fingerprint) for name, fingerprint in learned.items())
    command = "step train" if trained.recipe == "relearn" else f"train --recipe {trained.recipe}"
    relearned = trained.recipe == "relearn"
    kept = "of the last step" if relearned else "with the best macro-recall on the validation tweets"
    selection = note or f"Not recorded. The weights kept are those {kept}."
    parent = f", from {trained.parent}" if trained.parent else ""
    feedback = "Feedback is what users of the service said of its answers. The others are public\n"
    return f"""\
# {version}

{_RECIPES[trained.recipe]} It classifies English tweets as negative, neutral or positive.
Made {now:%Y-%m-%d %H:%M} UTC with `python -m sentiment {command}`{parent}.

## Use

For short English posts. Texts are normalised first (`sentiment/text.py`: mentions,
links, emoji as words). Not for other languages, not for judging persons, and not
where a wrong answer harms someone: irony, quoted speech and mixed feelings are
often misread.

## Results

On {validation.fingerprint.name}, measured on the int8 file that serves. The settings were chosen and the
probabilities calibrated on these tweets, so other tweets will score somewhat lower.

{render_markdown(report.validation)}

Before int8, the float32 model had a macro-recall of {report.float_macro_recall:.4f}. The temperature
{report.temperature:.3f} is folded into the graph; without it the expected calibration error (15 bins) was
{report.expected_calibration_error_before:.4f}, with it {report.validation.expected_calibration_error:.4f}.

## How the settings were chosen

{selection}

## Data

{data}
{_describe("Validation", validation.fingerprint)}

{feedback if relearned else "Public "}tweets written in the years those sets were collected, labelled by crowd
workers: they carry the topics, the language and the prejudices of that time.

## Settings

| setting | value |
|---|---|
{rows}
"""


def _describe(role: str, data: DataFingerprint) -> str:
    counts = ", ".join(f"{count:,} {label}" for label, count in data.rows.items())
    return f"- {role}: `{data.name}`, {sum(data.rows.values()):,} tweets ({counts}), SHA-256 `{data.sha256}`"
