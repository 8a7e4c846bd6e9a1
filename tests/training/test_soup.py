"""Averaging weights where it helps, and only there."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.training


def test_members_that_help_join_and_others_do_not() -> None:
    """On a bowl with its bottom at zero, plus one member in another valley."""
    import torch

    from sentiment.training.soup import greedy_soup

    members = [{"w": torch.tensor([value])} for value in (1.0, -0.8, 9.0)]
    weights, joined = greedy_soup(members, lambda each: abs(float(each["w"])))
    assert joined == 2
    assert float(weights["w"]) == pytest.approx(0.1)


def test_one_member_is_left_as_it_is() -> None:
    """Nothing to evaluate, nothing to average."""
    import torch

    from sentiment.training.soup import greedy_soup

    def loss(_: object) -> float:
        raise AssertionError("there is nothing to compare")

    weights, joined = greedy_soup([{"w": torch.tensor([3.0])}], loss)
    assert (float(weights["w"]), joined) == (3.0, 1)


def test_the_loss_does_not_depend_on_the_scale_of_the_logits() -> None:
    """Averaged weights give smaller logits of the same order."""
    from sentiment.training.soup import calibrated_loss

    random = np.random.default_rng(1)
    labels = random.integers(0, 3, 200)
    logits = (np.eye(3)[labels] + random.normal(size=(200, 3))).astype(np.float32)
    assert calibrated_loss(logits, labels) == pytest.approx(calibrated_loss(logits * 4, labels), abs=1e-4)
