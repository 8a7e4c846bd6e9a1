"""Normalisation of tweets, shared to the letter by training and serving.

A model is only as good as the agreement between the text it was trained on and
the text it is asked about, so there is exactly one function that both call:
`normalise`. `mask_identities` is its first half on its own: what has to happen
to a text before it may be stored (no handles, no links).

The placeholders ``@user`` and ``http`` are those of TweetEval (Barbieri et al.,
2020, "TweetEval: Unified Benchmark and Comparative Evaluation for Tweet
Classification"), so that public tweet corpora and ours look alike.
"""

from __future__ import annotations

import html
import re
import unicodedata
from functools import lru_cache

from sentiment.errors import InvalidInput

MENTION = "@user"
LINK = "http"

#: The longest text that is accepted, in Unicode code points, before normalisation.
#: A tweet has 280; long posts are accepted up to here and truncated by the model.
#: Chosen so that any accepted text fits a queue message (49,152 bytes) even when
#: every character takes its longest JSON form (six bytes).
MAX_TEXT_CHARACTERS = 5_000

# An at sign inside a word is an e-mail address, not a mention.
_MENTION = re.compile(r"(?<![\w@])@\w+")
_LINK = re.compile(r"(?:https?://|\bwww\.)\S+", re.IGNORECASE)
# Three or more of the same letter say "emphasis", not how much of it; two keep
# apart "soo" and "so". Digits are left alone: 2000 is not 200.
_REPEATED_LETTER = re.compile(r"([^\W\d_])\1{2,}")
_REPEATED_SYMBOL = re.compile(r"([^\w\s])\1{3,}")
_SKIN_TONE = re.compile("[\U0001f3fb-\U0001f3ff]")
_WHITE_SPACE = re.compile(r"\s+")
# Everything below is never (part of) an emoji, so most tweets skip that search:
# letters with accents, curly quotes, dashes, the ellipsis.
_MAY_BE_EMOJI = re.compile("[\u00a9\u00ae\u203c-\u3299\U0001f000-\U0010ffff]")
# Joiners and variation selectors matter inside an emoji and nowhere else.
_EMOJI_GLUE = "\u200d\ufe0e\ufe0f"
_NO_GLUE = dict.fromkeys(map(ord, _EMOJI_GLUE))


def check_text(text: str, pointer: str = "") -> None:
    """Refuse a text that cannot be classified; `pointer` says where it stands in a request.

    Raises:
        InvalidInput: it has lone surrogates, is too long, or nothing of it is visible.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            "text-not-unicode",
            f"The text has half of a surrogate pair at character {error.start}: send whole characters.",
            pointer,
        ) from error
    if len(text) > MAX_TEXT_CHARACTERS:
        raise InvalidInput(
            "text-too-long",
            f"The text has {len(text):,} characters, at most {MAX_TEXT_CHARACTERS:,} are accepted.",
            pointer,
        )
    if not normalise(text):
        raise InvalidInput(
            "text-blank", "The text is empty or has only white space and invisible characters.", pointer
        )


def normalise(text: str) -> str:
    """Return `text` as the model sees it.

    In order: HTML entities are resolved, Unicode is composed (NFC), invisible
    and control characters are dropped, mentions become ``@user`` and links
    ``http``, runs of one character are shortened, emoji become their English
    words (without skin tone), white space is collapsed.

    Defined for every `str`: lone surrogates count as invisible. The result may
    be empty (a text of nothing but control characters).
    """
    text = mask_identities(text)
    text = _REPEATED_LETTER.sub(r"\1\1", text)
    text = _REPEATED_SYMBOL.sub(r"\1\1\1", text)
    if not text.isascii():
        if _MAY_BE_EMOJI.search(text):
            text = _name_emoji(text)
        text = text.translate(_NO_GLUE)
    return _WHITE_SPACE.sub(" ", text).strip()


def mask_identities(text: str) -> str:
    """Return `text` with mentions and links replaced and invisible characters gone.

    What is left is what the product may keep: it still reads as the tweet, and
    names nobody.
    """
    if "&" in text:
        text = html.unescape(text)
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    if not text.isprintable():
        text = "".join(filter(None, map(_visible, text)))
    text = _LINK.sub(LINK, text)
    return _MENTION.sub(MENTION, text)


@lru_cache(maxsize=4096)
def _visible(character: str) -> str:
    """Return what is kept of one character: itself, a space, or nothing."""
    if character.isspace():
        return " "
    if character in _EMOJI_GLUE or unicodedata.category(character) not in ("Cc", "Cf", "Cs"):
        return character
    return ""


def telling_emoji() -> list[str]:
    """Return the faces, hearts and hands among the emoji: those that say how a tweet is meant."""
    from emoji import EMOJI_DATA, STATUS

    return [
        character
        for character, data in EMOJI_DATA.items()
        if len(character) == 1
        and data["status"] == STATUS["fully_qualified"]
        and any(word in data["en"] for word in ("face", "heart", "thumbs", "hands"))
    ]


def _name_emoji(text: str) -> str:
    # Imported here: the table of emoji is a few megabytes, and most tweets never ask.
    import emoji

    text = _SKIN_TONE.sub("", text)
    return emoji.replace_emoji(text, lambda _, data: f" {data['en'].strip(':').replace('_', ' ')} ")
