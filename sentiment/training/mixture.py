"""What a candidate is trained on: feedback and a replay of the base set, weighted.

Learning from mistakes alone makes a model worse: it learns that whatever the
mistakes are mostly, everything is. So what was right is learned too, each
confirmation standing for the many predictions nobody corrected; the classes are
balanced by how frequent they are in the traffic; and a part of the base set is
replayed (Robins, 1995, rehearsal) towards the champion's own answers (Li and
Hoiem, 2016). `benchmarks/recipes.py` compares the parts.
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
from sentiment.evaluation.traffic import traffic_weights
from sentiment.records import LABELS, Label
from sentiment.training.recipes import Relearning

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

    @property
    def digest(self) -> str:
        """SHA-256 of everything in it."""
        digest = hashlib.sha256(msgspec.json.encode(self.texts))
        for column in (self.labels, self.weights, self.taught):
            digest.update(column.tobytes())
        return digest.hexdigest()


def mix(
    feedback: Feedback, base: LabelledTweets, predictions: Mapping[Label, int], settings: Relearning
) -> Mixture:
    """Return the feedback and a random part of the base set as weighted rows.

    `predictions` counts, per predicted class, all predictions that the feedback
    was given on; empty where nobody counted.
    """
    stands_for = np.ones(len(feedback.labels))
    if settings.traffic_weights:
        stands_for = traffic_weights(
            feedback.predicted, feedback.errors, predictions, cap=settings.weight_cap
        )
    traffic = class_frequencies(feedback, predictions, stands_for)
    of_base = np.array([base.fingerprint.rows[label] for label in LABELS]) / len(base)
    replayed = np.random.default_rng(settings.seed).permutation(len(base))[: settings.replay]
    weights = np.concatenate(
        [
            stands_for * _balance(traffic, settings.class_weight_power)[feedback.labels],
            settings.replay_weight
            * _balance(of_base, settings.replay_class_weight_power)[base.labels[replayed]],
        ]
    )
    return Mixture(
        texts=(*feedback.texts, *(base.texts[row] for row in replayed)),
        labels=np.concatenate([feedback.labels, base.labels[replayed]]),
        weights=weights / weights.mean(),
        taught=np.concatenate(
            [np.zeros(len(feedback.labels)), np.full(len(replayed), settings.distillation)]
        ),
    )


def class_frequencies(feedback: Feedback, predictions: Mapping[Label, int], stands_for: Floats) -> Floats:
    """Return how frequent each true class is in the traffic, shape (3,), summing to one.

    Where predictions are counted, those that nobody corrected count as right; it
    takes no text to know how many they are. Elsewhere the weighted rows are all
    there is to go by.
    """
    errors = feedback.errors
    if predictions:
        wrong = np.bincount(feedback.predicted[errors], minlength=len(LABELS))
        made = np.array([predictions.get(label, 0) for label in LABELS])
        right = np.maximum(made - wrong, 0)
        counts = right + np.bincount(feedback.labels[errors], minlength=len(LABELS))
    else:
        counts = np.bincount(feedback.labels, weights=stands_for, minlength=len(LABELS))
    # A class that nobody mentions counts as one row: its weight has to be finite.
    counts = np.maximum(counts, 1.0)
    frequencies: Floats = counts / counts.sum()
    return frequencies


def _balance(frequencies: Floats, power: float) -> Floats:
    """Return a weight per class, of mean one over the rows: it changes the balance, not the amount."""
    weights = frequencies**-power
    balanced: Floats = weights / (weights * frequencies).sum()
    return balanced
