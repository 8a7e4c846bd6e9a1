"""Sampled predictions on real storage: only when asked for, once a text, nobody's name, gone when erased."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from azure.data.tables import TableClient

from localhost.azurite import Azurite
from sentiment.errors import StoreUnavailable
from sentiment.feedback.messages import text_key
from sentiment.feedback.tables import Table
from sentiment.records import Label, Sample
from sentiment.samples import CAPACITY, Samples
from tests.stage import until
from tests.wire import Wire

NEVER = 3600.0


class Setting:
    """A table of its own, and what samples into it."""

    def __init__(self, azurite: Azurite) -> None:
        self.wire = Wire()
        name = f"t{uuid.uuid4().hex}"
        self.client = self.wire.open_table(azurite, name)
        self.by_hand = TableClient.from_connection_string(azurite.connection_string, name)
        self.instances: list[Samples] = []

    def samples(self, share: float, every: float = NEVER) -> Samples:
        samples = Samples(lambda: Table(self.client), share, every=every)
        self.instances.append(samples)
        return samples


@pytest.fixture
def setting(azurite: Azurite) -> Iterator[Setting]:
    setting = Setting(azurite)
    with setting.client, setting.by_hand:
        yield setting
        setting.wire.cut = None
        for samples in setting.instances:
            samples.close()


def test_nothing_is_kept_unless_it_is_asked_for(setting: Setting) -> None:
    """Not even in memory."""
    samples = setting.samples(0)
    samples.offer("I love it", "positive", 0.9, "v1")
    samples.flush()
    assert not samples.on
    assert setting.wire.exchanges == []
    assert list(samples.all()) == []


def test_a_sample_says_what_was_answered_and_names_nobody(setting: Setting) -> None:
    """Masked as a correction is."""
    samples = setting.samples(1, every=0.01)
    samples.offer("I love it @anna https://x.y/z", "positive", 0.9, "v1")
    (sample,) = _await(samples, 1)
    assert (sample.text, sample.predicted, sample.confidence) == ("I love it @user http", "positive", 0.9)
    assert sample.model_version == "v1"
    assert sample.text_key == text_key("I love it @anna https://x.y/z")
    assert abs(datetime.now(UTC) - datetime.fromisoformat(sample.at)) < timedelta(minutes=1)
    stored = json.dumps([dict(row) for row in setting.by_hand.list_entities()], default=str)
    assert "anna" not in stored


def _await(samples: Samples, count: int) -> list[Sample]:
    until(lambda: len(list(samples.all())) == count, f"{count} samples")
    return list(samples.all())


def test_the_same_text_is_one_sample(setting: Setting) -> None:
    """Asked again, from another instance, written otherwise: the last answer stands."""
    asked: list[tuple[str, Label]] = [
        ("so good", "neutral"),
        ("so  goooooood", "neutral"),
        ("so good ", "positive"),
    ]
    for text, label in asked:
        samples = setting.samples(1)
        samples.offer("so good", "negative", 0.5, "v1")
        samples.offer(text, label, 0.5, "v1")
        samples.flush()
    (sample,) = samples.all()
    assert (sample.text, sample.predicted) == ("so good ", "positive")


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_share_of_the_texts_is_kept_always_the_same(setting: Setting, share: float) -> None:
    """Which ones follows from the texts, so that a retry does not roll the dice again."""
    kept = []
    for _ in range(2):
        samples = setting.samples(share)
        for number in range(800):
            samples.offer(f"tweet {number}", "neutral", 0.5, "v1")
        samples.flush()
        kept.append({sample.text for sample in samples.all()})
    assert kept[0] == kept[1]
    assert abs(len(kept[0]) - 800 * share) < 60


def test_storage_that_is_gone_costs_samples_and_nothing_else(setting: Setting) -> None:
    """Offering does not wait, memory is bounded, and later ones are kept again."""
    samples = setting.samples(1)
    setting.wire.cut = ""
    started = time.perf_counter()
    for number in range(2 * CAPACITY):
        samples.offer(f"tweet {number}", "neutral", 0.5, "v1")
    assert time.perf_counter() - started < 1
    assert len(samples._waiting) == CAPACITY
    with pytest.raises(StoreUnavailable):
        samples.flush()
    setting.wire.cut = None
    samples.offer("later", "neutral", 0.5, "v1")
    samples.flush()
    assert "later" in {sample.text for sample in samples.all()}


def test_samples_are_removed_by_their_texts(setting: Setting) -> None:
    """Also one that this process had not stored yet; what is not there is no trouble."""
    samples = setting.samples(1)
    assert samples.remove([text_key("nobody asked")]) == 0
    for text in ("one", "two", "three"):
        samples.offer(text, "neutral", 0.5, "v1")
    assert samples.remove([text_key("ONE".lower()), text_key("two @anna"), text_key("two")]) == 2
    assert [sample.text for sample in samples.all()] == ["three"]


def test_old_samples_are_erased(setting: Setting) -> None:
    """By when the text was last asked about."""
    samples = setting.samples(1)
    samples.offer("old", "neutral", 0.5, "v1")
    samples.flush()
    between = datetime.now(UTC)
    samples.offer("new", "neutral", 0.5, "v1")
    assert samples.erase_before(between) == 1
    assert [sample.text for sample in samples.all()] == ["new"]


def test_closing_stores_what_is_left(setting: Setting) -> None:
    """Without waiting for the next turn of the thread."""
    samples = setting.samples(1)
    samples.offer("last words", "neutral", 0.5, "v1")
    samples.close()
    assert [sample.text for sample in samples.all()] == ["last words"]
