"""Each slice takes what it is named after, and leaves its look-alikes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment.evaluation.slices import SLICES, lix, slice_masks, words

EXAMPLES: dict[str, tuple[list[str], list[str]]] = {
    "emoji": (
        ["so good 😍", "well :)", "<3 you", "ok ;-)", "sad :'(", "thumbs 👍🏽", "(: hi", "xD lol"],
        ["at 10:30 am", "see http://x.y/8D", "C:/Users", "(8 of them)", "plain"],
    ),
    "negation": (
        ["not good", "I can't", "I can’t", "never again", "dont know", "nobody came", "without a word"],
        ["a knot", "another nose", "nothingham"],
    ),
    "contrast": (["fine, but cold", "Although it rained", "however"], ["a butter knife", "thorough"]),
    "question": (["why?", "is it?!"], ["why."]),
    "exclamation": (["yes!"], ["yes."]),
    "elongation": (["sooo good", "yesss", "noooo"], ["see www.example.org", "too good", "100000", "....."]),
    "intensifiers": (["very nice", "such a mess", "SO good"], ["sofa", "verify"]),
    "mentions": (["hi @user", ".@user look"], ["mail me@example.org", "@ home"]),
    "links": (["see http://t.co/x", "http", "www.example.org"], ["httpd is a server"]),
    "hashtags": (["#fail", "so #happy"], ["# one", "number #"]),
    "all_caps": (
        ["THIS IS SHOUTING", "what the HECK HAPPENED"],
        ["JFK to LAX", "the NASA launch", "@AMERICAN @UNITED"],
    ),
    "irony_markers": (
        ["great service #sarcasm", "yeah right", "Oh great, rain", "ok /s",
         "your \"customer service\"", "love it #not"],
        ["watching \"The Wire\"", "he said \"we will be there at nine\"", "#nothing", "right, yeah"],
    ),
    "numbers": (["in 2 days", "$5 off", "at 10:30"], ["#2017", "b2b", "@user1"]),
    "short": (["on my way", ""], ["one two three four five six seven eight"]),
    "long": (["word " * 25], ["word " * 24]),
    "complex": (
        [
            "The unprecedented administrative restructuring considerably complicates international "
            "collaboration between universities and independent laboratories"
        ],
        ["I went to the shop and got some milk and then I went home to my cat", "Unbelievable incompetence"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SLICES)
def test_a_slice_takes_what_it_is_named_after(name: str) -> None:
    """And nothing that only looks like it."""
    inside, outside = EXAMPLES[name]
    for text in inside:
        assert SLICES[name](text), f"{text!r} is not in {name}"
    for text in outside:
        assert not SLICES[name](text), f"{text!r} is in {name}"


def test_masks_are_by_text() -> None:
    """One mask a slice, one flag a text."""
    masks = slice_masks(["why?", "not me", "a dog"])
    assert masks.keys() == SLICES.keys()
    assert masks["question"].tolist() == [True, False, False]
    assert masks["negation"].tolist() == [False, True, False]
    assert all(len(mask) == 0 for mask in slice_masks([]).values())


def test_lix_is_words_a_sentence_and_long_words_in_per_cent() -> None:
    """Six words in two sentences, two of the words over six letters: 3 + 33.3."""
    assert lix("Children running. The cat sat here.") == pytest.approx(3 + 100 * 2 / 6)
    assert lix("") == 0.0


def test_words_are_those_of_the_writer() -> None:
    """No mention, no link, no sign of a hashtag, no digits."""
    assert words("@user don't miss #Monday's 2 talks: http://t.co/a1b2") == (
        "don't",
        "miss",
        "Monday's",
        "talks",
    )


@given(st.text())
def test_any_text_can_be_sliced(text: str) -> None:
    """Rules are total."""
    assert all(len(mask) == 1 for mask in slice_masks([text]).values())
