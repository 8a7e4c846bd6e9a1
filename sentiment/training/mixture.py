"""What a candidate is trained on: feedback and a replay of the base set, weighted.

Learning from mistakes alone makes a model worse: it learns that whatever the
mistakes are mostly, everything is. So what was right is learned too, each
confirmation standing for the many predictions nobody corrected; the classes are
balanced by how frequent they are in the traffic (Menon et al., 2021, logit
adjustment); and a part of the base set is replayed (Robins, 1995, rehearsal)
towards the champion's own answers (Li and Hoiem, 2016), in part with emoji added,
which a base set may have too few of. `benchmarks/recipes.py` compares the parts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from sentiment.evaluation.data import LabelledTweets
from sentiment.evaluation.feedback_rows import Feedback
from sentiment.evaluation.traffic import confirmation_weights
from sentiment.records import LABELS, Label
from sentiment.text import telling_emoji
from sentiment.training.recipes import Relearning

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Mixture(Struct, frozen=True, eq=False):
    """Weighted rows; arrays of shape (rows,)."""

    texts: tuple[str, ...]
    #: Positions in `LABELS`.
    labels: npt.NDArray[np.int64]
    #: Of mean one.
    weights: Floats
    #: Share of the champion's answer in the row's target, 0 to 1; the label has the rest.
    taught: Floats
    #: Added to the row's logits while it is trained on, shape (rows, 3).
    offsets: Floats

    @property
    def digest(self) -> str:
        """SHA-256 of everything in it."""
        digest = hashlib.sha256(msgspec.json.encode(self.texts))
        for column in (self.labels, self.weights, self.taught, self.offsets):
            digest.update(column.tobytes())
        return digest.hexdigest()


def mix(
    feedback: Feedback, base: LabelledTweets, predictions: Mapping[Label, float], settings: Relearning
) -> Mixture:
    """Return the feedback and a random part of the base set as weighted rows.

    `predictions` counts, per predicted class, all predictions that the feedback of
    the latest cycle was given on; empty where nobody counted. What it says of the
    traffic is taken to hold for the feedback of earlier cycles too.
    """
    latest = feedback.cycles == feedback.cycles.max(initial=0)
    predicted, errors = feedback.predicted[latest], feedback.errors[latest]
    per_class = np.ones(len(LABELS))
    if settings.traffic_weights:
        per_class = confirmation_weights(predicted, errors, predictions, cap=settings.weight_cap)
    stands_for = np.where(feedback.errors, 1.0, per_class[feedback.predicted])
    if predictions:
        traffic = counted_frequencies(feedback.labels[latest], predicted, errors, predictions)
    else:
        weighed = np.bincount(feedback.labels, weights=stands_for, minlength=len(LABELS))
        traffic = _frequencies(weighed.astype(np.float64))
    of_base = _frequencies(np.array([base.fingerprint.rows[label] for label in LABELS], dtype=np.float64))
    replayed = np.random.default_rng(settings.seed).permutation(len(base))[: settings.replay]
    replay_weights = _balance(of_base, settings.replay_class_weight_power)[base.labels[replayed]]
    # Feedback only ever grows: what is replayed has to grow with it, or the next cycles forget.
    at_least = stands_for.sum() * settings.replay_share / (1.0 - settings.replay_share)
    heavier = max(settings.replay_weight, at_least / max(1.0, replay_weights.sum()))
    weights = np.concatenate([stands_for, heavier * replay_weights])
    rows = len(feedback.labels)
    texts, with_emoji = _add_emoji([base.texts[row] for row in replayed], settings)
    return Mixture(
        texts=(*feedback.texts, *texts),
        labels=np.concatenate([feedback.labels, base.labels[replayed]]),
        weights=weights / weights.mean(),
        # Whatever the tweet's label was, it is of the tweet without the emoji.
        taught=np.concatenate([np.zeros(rows), np.where(with_emoji, 1.0, settings.distillation)]),
        offsets=np.concatenate(
            [
                np.tile(settings.logit_adjustment * np.log(traffic), (rows, 1)),
                np.zeros((len(replayed), len(LABELS))),
            ]
        ),
    )


def trained_share(
    feedback: Feedback, held_out: Feedback, predictions: Mapping[Label, int]
) -> dict[Label, float]:
    """Return as many of the latest cycle's `predictions` as belong to rows that are not held out.

    Empty, as for a cycle that nobody counted, if chance has held all its rows out:
    the counts say nothing of earlier cycles.
    """
    latest = max(feedback.cycles.max(initial=0), held_out.cycles.max(initial=0))
    trained_on, kept_back = ((rows.cycles == latest).sum() for rows in (feedback, held_out))
    if not trained_on:
        return {}
    return {label: count * trained_on / (trained_on + kept_back) for label, count in predictions.items()}


def _add_emoji(texts: list[str], settings: Relearning) -> tuple[list[str], npt.NDArray[np.bool_]]:
    """Return `texts`, a share of them with one or two of the same emoji at the end, and which ones."""
    rng = np.random.default_rng([settings.seed, len(texts)])
    chosen = rng.permutation(len(texts)) < round(settings.replay_emoji * len(texts))
    if chosen.any():
        emoji = telling_emoji()
        texts = [
            f"{text} {emoji[rng.integers(len(emoji))] * int(rng.integers(1, 3))}" if with_emoji else text
            for text, with_emoji in zip(texts, chosen, strict=True)
        ]
    return texts, chosen


def counted_frequencies(
    labels: Integers,
    predicted: Integers,
    errors: npt.NDArray[np.bool_],
    predictions: Mapping[Label, float],
) -> Floats:
    """Return how frequent each true class is in the traffic, shape (3,), summing to one.

    Predictions that nobody corrected count as right: it takes no text to know how
    many they are.
    """
    wrong = np.bincount(predicted[errors], minlength=len(LABELS))
    made = np.array([predictions.get(label, 0.0) for label in LABELS])
    corrected = np.bincount(labels[errors], minlength=len(LABELS)).astype(np.float64)
    return _frequencies(np.maximum(made - wrong, 0.0) + corrected)


def _frequencies(counts: Floats) -> Floats:
    # A class that nobody mentions counts as one row: its logarithm has to be finite.
    counts = np.maximum(counts, 1.0)
    frequencies: Floats = counts / counts.sum()
    return frequencies


def _balance(frequencies: Floats, power: float) -> Floats:
    """Return a weight per class, of mean one over the rows: it changes the balance, not the amount."""
    weights = frequencies**-power
    balanced: Floats = weights / (weights * frequencies).sum()
    return balanced
