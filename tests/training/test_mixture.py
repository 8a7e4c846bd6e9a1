"""What a candidate is trained on, and how much each row weighs."""

from __future__ import annotations

import numpy as np
import pytest

from sentiment.evaluation.data import LabelledTweets
from sentiment.evaluation.feedback_rows import Feedback
from sentiment.records import LABELS, DataFingerprint

pytestmark = pytest.mark.training


def _feedback(rows: list[tuple[int, int, int]]) -> Feedback:
    """Rows of (predicted, label, cycle)."""
    predicted, labels, cycles = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    return Feedback(
        texts=tuple(f"text {number}" for number in range(len(rows))),
        labels=labels,
        predicted=predicted,
        kinds=tuple("confirmation" if said == was else "error" for was, said, _ in rows),
        cycles=cycles,
        fingerprint=DataFingerprint(name="feedback.jsonl", sha256="", rows={}),
    )


def _base(rows: int) -> LabelledTweets:
    labels = np.arange(rows, dtype=np.int64) % 3
    return LabelledTweets(
        texts=tuple(f"base {number}" for number in range(rows)),
        labels=labels,
        fingerprint=DataFingerprint(
            name="base.tsv",
            sha256="",
            rows={label: int((labels == index).sum()) for index, label in enumerate(LABELS)},
        ),
    )


#: Two errors and two confirmations, of which one class was predicted eleven times and one five times.
ROWS = [(2, 0, 1), (1, 0, 1), (0, 0, 1), (1, 1, 1)]
PREDICTIONS = {"negative": 11, "neutral": 5, "positive": 1}


def test_a_confirmation_stands_for_all_that_nobody_corrected() -> None:
    """Counts without texts say how much of the traffic each row is."""
    from sentiment.training.mixture import mix
    from sentiment.training.recipes import Relearning

    mixture = mix(_feedback(ROWS), _base(30), PREDICTIONS, Relearning(replay=6, weight_cap=10.0))
    weights = mixture.weights / mixture.weights[0]
    # Eleven negatives, all right, are at the cap; of five neutral ones four were.
    assert weights[:4].tolist() == pytest.approx([1.0, 1.0, 10.0, 4.0])
    assert mixture.weights.mean() == pytest.approx(1.0)
    assert len(mixture.texts) == 10
    assert len(set(mixture.texts)) == 10


def test_the_replay_keeps_its_share_however_much_feedback_there_is() -> None:
    """And weighs no less than it does beside little feedback."""
    from sentiment.training.mixture import mix
    from sentiment.training.recipes import Relearning

    settings = Relearning(replay=6, replay_weight=2.0, replay_share=0.75)
    for predictions, expected in ((PREDICTIONS, 3 * 16 / 6), ({}, 2.0)):
        mixture = mix(_feedback(ROWS), _base(30), predictions, settings)
        weights = mixture.weights / mixture.weights[0]
        assert weights[4:].tolist() == pytest.approx([expected] * 6)


def test_the_classes_are_balanced_by_their_frequency_in_the_traffic() -> None:
    """Offsets of feedback are the logarithms of true classes' frequencies; replayed tweets have none."""
    from sentiment.training.mixture import mix
    from sentiment.training.recipes import Relearning

    mixture = mix(_feedback(ROWS), _base(30), PREDICTIONS, Relearning(replay=6, logit_adjustment=1.0))
    # Negative: 11 right and 2 corrected to it; neutral: 4 right; positive: none, counted as one.
    assert np.exp(mixture.offsets[0]) == pytest.approx(np.array([13, 4, 1]) / 18)
    assert (mixture.offsets[4:] == 0).all()
    assert (mixture.taught[:4] == 0).all()
    assert (mixture.taught[4:] == Relearning().distillation).all()


def test_held_out_rows_take_their_predictions_with_them() -> None:
    """One of four rows of the latest cycle; or all, and the counts are of nothing that is trained on."""
    from sentiment.training.mixture import trained_share

    earlier, latest = [(0, 0, 1)] * 3, [(0, 0, 2)] * 3
    one = trained_share(_feedback(earlier + latest), _feedback([(0, 1, 2)]), {"negative": 40, "neutral": 4})
    assert one == {"negative": 30.0, "neutral": 3.0}
    assert trained_share(_feedback(earlier), _feedback(latest), {"negative": 40}) == {}


def test_without_counts_every_piece_of_feedback_weighs_the_same() -> None:
    """Nobody knows then how much a confirmation stands for."""
    from sentiment.training.mixture import mix
    from sentiment.training.recipes import Relearning

    mixture = mix(_feedback(ROWS), _base(30), {}, Relearning(replay=0))
    assert mixture.weights.tolist() == [1.0] * 4


def test_what_the_latest_cycle_says_of_the_traffic_holds_for_earlier_ones() -> None:
    """The counts are of one cycle: rows of others do not dilute them."""
    from sentiment.training.mixture import mix
    from sentiment.training.recipes import Relearning

    earlier = [(0, 0, 1)] * 5
    later = [(was, said, 2) for was, said, _ in ROWS]
    mixture = mix(_feedback(earlier + later), _base(30), PREDICTIONS, Relearning(replay=0, weight_cap=20.0))
    weights = mixture.weights / mixture.weights[5]
    assert weights.tolist() == pytest.approx([11.0] * 5 + [1.0, 1.0, 11.0, 4.0])


def test_a_share_of_the_replay_carries_emoji_as_the_champion_reads_them() -> None:
    """Whatever the tweet's own label was: it was of the tweet without."""
    from emoji import is_emoji

    from sentiment.training.mixture import mix
    from sentiment.training.recipes import Relearning

    settings = Relearning(replay=16, replay_emoji=0.25, distillation=0.5)
    mixture = mix(_feedback(ROWS), _base(30), PREDICTIONS, settings)
    replayed, taught = mixture.texts[4:], mixture.taught[4:]
    carries = [is_emoji(text[-1]) for text in replayed]
    assert sum(carries) == 4
    assert taught.tolist() == [1.0 if each else 0.5 for each in carries]
    assert mix(_feedback(ROWS), _base(30), PREDICTIONS, settings).digest == mixture.digest
    none = mix(_feedback(ROWS), _base(30), PREDICTIONS, Relearning(replay=16, replay_emoji=0.0))
    assert not any(is_emoji(text[-1]) for text in none.texts)
