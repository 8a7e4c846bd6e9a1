"""Normalisation and the refusal of texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment.errors import InvalidInput
from sentiment.text import MAX_TEXT_CHARACTERS, check_text, mask_identities, normalise, telling_emoji


@pytest.mark.parametrize(
    ("raw", "normalised"),
    [
        ("@JetBlue is late &amp; rude", "@user is late & rude"),
        ("see https://t.co/abc, www.example.com/x?y=1 now", "see http http now"),
        ("mail me@example.com", "mail me@example.com"),
        ("😡😡 #nothappy", "enraged face enraged face #nothappy"),
        ("\N{THUMBS UP SIGN}\N{EMOJI MODIFIER FITZPATRICK TYPE-5} ok", "thumbs up ok"),
        ("👨\u200d👩\u200d👧", "family man woman girl"),
        ("❤️", "red heart"),
        ("sooooo cooool", "soo cool"),
        ("in 2000 I paid 1000000", "in 2000 I paid 1000000"),
        ("what!!!!!!!", "what!!!"),
        ("cafe\u0301", "caf\u00e9"),
        ("a\u0000b\u202ec\u200bd", "abcd"),
        ("a\tb\n\n c\u00a0d", "a b c d"),
        ("\ud800", ""),
        ("\u200f\u200e\ufe0f\u200d", ""),
        ("I’m “fine” — really…", "I’m “fine” — really…"),
    ],
)
def test_a_text_becomes_what_the_model_reads(raw: str, normalised: str) -> None:
    """Each rule of `normalise`, by example."""
    assert normalise(raw) == normalised


@given(st.text())
def test_every_string_has_a_normal_form(text: str) -> None:
    """No string raises, and what comes out is printable, trimmed, and valid Unicode."""
    result = normalise(text)
    assert result == result.strip()
    assert "  " not in result
    result.encode()


@given(st.text())
def test_normalising_keeps_no_handle_and_no_link(text: str) -> None:
    """However they are surrounded, handles and links do not survive."""
    result = mask_identities(f"{text} @somebody_42 https://t.co/Secret1")
    assert "somebody_42" not in result
    assert "Secret1" not in result


def test_a_hundred_thousand_emoji_take_no_time_to_normalise() -> None:
    """Runs are cut before they are named."""
    assert len(normalise("😂" * 100_000)) < 100


@pytest.mark.parametrize("text", ["", " \n\t", "\u0000", "\u200f\u200e", "&nbsp;", "\ufe0f"])
def test_a_text_without_anything_visible_is_blank(text: str) -> None:
    """White space and invisible characters are no text."""
    with pytest.raises(InvalidInput) as caught:
        check_text(text, "/text")
    assert (caught.value.code, caught.value.pointer) == ("text-blank", "/text")


def test_a_text_may_be_as_long_as_documented_and_no_longer() -> None:
    """The limit is inclusive."""
    check_text("x y" * (MAX_TEXT_CHARACTERS // 3))
    with pytest.raises(InvalidInput, match=r"5,001 characters, at most 5,000") as caught:
        check_text("x" * (MAX_TEXT_CHARACTERS + 1))
    assert caught.value.code == "text-too-long"


def test_half_a_surrogate_pair_is_named_with_its_place() -> None:
    """Such a string cannot be stored or signed."""
    with pytest.raises(InvalidInput, match="at character 3") as caught:
        check_text("abc\ud83d")
    assert caught.value.code == "text-not-unicode"


def test_telling_emoji_are_those_that_say_how_a_tweet_is_meant() -> None:
    """Each is one character, and a tweet with it is still a tweet."""
    found = telling_emoji()
    assert {"😍", "😠", "💔", "👍"} <= set(found)
    assert not {"🍕", "🚀", "🏠"} & set(found)
    assert all(normalise(f"a train {emoji}") != "a train" for emoji in found)
