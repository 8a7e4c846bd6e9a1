"""Which words moved an answer: their order, sign and place, and how much work it may be."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment import explanations
from sentiment.api import read_explain_request
from sentiment.classifier import Classifier
from sentiment.errors import InvalidInput, MalformedJson
from sentiment.explanations import FEWEST_PARTS, MOST_WORDS, MOST_WORDS_READ, explain, spans
from sentiment.records import Champion, Prediction, TextRequest
from sentiment.serving import Loaded
from tests.models import make_model_folder


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return Classifier.load(make_model_folder(tmp_path_factory.mktemp("tiny") / "model"), threads=1)


class Counting:
    """A classifier that keeps what it is asked."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self.asked: list[list[str]] = []

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        self.asked.append(list(texts))
        return self.classifier.predict(texts)


def test_words_for_and_against_the_label_are_told_apart_in_the_order_of_the_text(
    classifier: Classifier,
) -> None:
    """The model adds up its words, so each word's part in the answer is known."""
    text = "the bus,  I love the wonderful bus and love it"
    prediction, words = explain(text, classifier)
    assert prediction == classifier.predict([text])[0]
    assert prediction.label == "positive"
    assert [word.text for word in words] == text.split()
    assert [text[word.start : word.end] for word in words] == text.split()
    weight = {word.text: word.weight for word in words}
    assert weight["love"] > 0.01
    assert weight["wonderful"] == pytest.approx(weight["love"], abs=1e-6)
    assert weight["bus"] < 0
    assert weight["it"] == pytest.approx(0, abs=1e-6)


def test_the_weight_is_what_the_label_loses_without_the_word(classifier: Classifier) -> None:
    """Occlusion, said in numbers."""
    _, words = explain("love the bus", classifier)
    whole, without = classifier.predict(["love the bus", "love the"])
    assert whole.label == "neutral"
    assert words[2].weight == pytest.approx(whole.scores.neutral - without.scores.neutral, abs=1e-6)


def test_a_text_of_one_word_is_weighed_against_knowing_nothing(classifier: Classifier) -> None:
    """Without it nothing is left to ask the model about."""
    counting = Counting(classifier)
    prediction, (word,) = explain("  love\n", counting)
    assert counting.asked == [["  love\n"]]
    assert (word.text, word.start, word.end) == ("love", 2, 6)
    assert word.weight == pytest.approx(prediction.scores.positive - 1 / 3, abs=1e-6)


def test_a_word_beside_something_invisible_is_the_only_word(classifier: Classifier) -> None:
    """What is left is blank to the model, although the string is not empty."""
    counting = Counting(classifier)
    _, words = explain("love \u200b", counting)
    assert counting.asked[1:] == [["love "]]
    assert words[0].weight > 0.5
    assert words[1].weight == pytest.approx(0, abs=1e-6)


def test_all_variants_go_through_the_session_together(classifier: Classifier) -> None:
    """One call for the text, one for all its variants."""
    counting = Counting(classifier)
    explain("one two three four", counting)
    assert [len(texts) for texts in counting.asked] == [1, 4]


def test_offsets_count_code_points(classifier: Classifier) -> None:
    """An emoji is one, whatever it is in UTF-16."""
    _, words = explain("😀😀 love", classifier)
    assert [(word.start, word.end) for word in words] == [(0, 2), (3, 7)]


@given(st.integers(0, 3000))
def test_the_work_is_bounded_however_long_the_text(count: int) -> None:
    """Parts cover the words in order, without gap or overlap, and are few where words are many."""
    text = " ".join(f"w{number}" for number in range(count))
    parts = spans(text)
    weighed = min(count, MOST_WORDS)
    assert [word for start, end in parts for word in text[start:end].split()] == text.split()[:weighed]
    assert len(parts) * weighed <= max(MOST_WORDS_READ, FEWEST_PARTS * MOST_WORDS)
    assert len(parts) >= min(count, FEWEST_PARTS)


@given(st.text(max_size=60))
def test_parts_are_always_slices_of_the_text(text: str) -> None:
    """Nothing but white space is left out of them."""
    parts = spans(text)
    assert parts == sorted(parts)
    outside = "".join(
        text[end:start]
        for (_, end), (start, _) in zip([(0, 0), *parts], [*parts, (len(text), 0)], strict=True)
    )
    assert not outside.strip()


def test_a_request_has_the_form_of_predict() -> None:
    """One text is read and refused as `POST predict` would."""
    assert read_explain_request("application/json", b'{"text": "love"}') == TextRequest("love")
    with pytest.raises(InvalidInput, match="empty or has only white space"):
        read_explain_request("application/json", b'{"text": " "}')
    with pytest.raises(MalformedJson):
        read_explain_request("application/json", b"{")


def test_a_batch_is_refused_by_name() -> None:
    """Explaining is work: one at a time."""
    with pytest.raises(InvalidInput, match="one tweet is explained at a time") as caught:
        read_explain_request("application/json", b'{"documents": [{"id": "1", "text": "love"}]}')
    assert (caught.value.code, caught.value.pointer) == ("one-text", "/documents")


def test_the_answer_names_the_version_that_was_asked(classifier: Classifier) -> None:
    """A page that shows an older answer can tell."""

    class Serves:
        def current(self) -> Loaded:
            champion = Champion(
                version="tiny-1", sha256="0" * 64, previous=None, promoted_at="", by="test", reason="to see"
            )
            return Loaded(classifier, champion, {}, datetime.now(UTC))

    answer = explanations.answer(TextRequest("love"), Serves())  # type: ignore[arg-type]
    assert (answer.label, answer.model_version, answer.truncated) == ("positive", "tiny-1", False)
