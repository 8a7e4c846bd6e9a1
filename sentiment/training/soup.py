"""One model out of several: the average of their weights (Wortsman et al., 2022, "Model soups").

Models that were fine-tuned from the same weights lie in one basin, and their
average is nearly as good as their ensemble at the cost of one model. Models that
ended in different basins have no meaningful average, so a member joins only where
it helps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from sentiment.evaluation.metrics import fit_temperature, negative_log_likelihood

Weights = dict[str, torch.Tensor]


def average(members: Sequence[Weights]) -> Weights:
    """Return the mean of the members' weights."""
    return {name: torch.stack([member[name] for member in members]).mean(dim=0) for name in members[0]}


def greedy_soup(members: Sequence[Weights], loss: Callable[[Weights], float]) -> tuple[Weights, int]:
    """Return the average of the members that help, and how many they are.

    The "greedy soup" of the paper (section 2): beginning with the best, each joins
    if the average then has no higher `loss` (on validation tweets).
    """
    if len(members) == 1:
        return members[0], 1
    # Rounded: equal members must not be told apart by the last bits of a sum.
    ranked = sorted(((round(loss(member), 6), number) for number, member in enumerate(members)))
    best, chosen = ranked[0][0], [members[ranked[0][1]]]
    for _, number in ranked[1:]:
        candidate = [*chosen, members[number]]
        found = loss(average(candidate))
        if found <= best:
            best, chosen = found, candidate
    return average(chosen), len(chosen)


def calibrated_loss(logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> float:
    """Return the negative log likelihood of `logits`, shape (n, 3), at their best temperature.

    Far less noisy than macro-recall on the same tweets, and blind to the scale of
    the logits, which averaging shrinks.
    """
    scaled = logits.astype(np.float64) / fit_temperature(logits, labels)
    weights = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return negative_log_likelihood(weights / weights.sum(axis=1, keepdims=True), labels)
