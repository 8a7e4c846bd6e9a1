"""Kinds of tweets, told from the text alone: where does a model fail?

Rules, not models: anybody can see why a tweet is in a slice, and a slice means the
same for every model that is judged. What they mean is in `SLICES`. A rule finds the
wording and not the phenomenon: "irony_markers" are words people use to mark irony,
and most ironic tweets have none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sentiment.text import mask_identities

#: Words from which on a tweet is long; a tweet of 2017 has about 15 to 20.
LONG_WORDS = 25
#: Words up to which a tweet is short.
SHORT_WORDS = 7
#: LIX of text that is "difficult" begins at 50 (Björnsson, 1968, "Läsbarhet"; Anderson,
#: 1983, "Lix and Rix: Variations on a Little-known Readability Index").
COMPLEX_LIX = 50.0
# Fewer words make an index of sentences and long words meaningless.
_COMPLEX_FEWEST_WORDS = 12
# LIX counts words of more than six letters as long.
_LONG_WORD_LETTERS = 7

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_SENTENCE_END = re.compile(r"[.!?…]+(?=\s|$)")
# Wide enough for every block of emoji and pictographs; digits, # and * are not counted.
_EMOJI = re.compile(
    "[\u203c\u2049\u2600-\u27bf\u2b05-\u2b55\U0001f1e6-\U0001f1ff\U0001f300-\U0001faff]|"
    # Western emoticons, not inside a link or a word.
    r"(?<![\w/])(?:[:;=8xX][-'^o]?[)(DPpO/\\|\]\[*3]+|<3+|[)(]+[-'^o]?[:;=])(?!\w)"
)


def _matches(pattern: str, flags: re.RegexFlag = re.IGNORECASE) -> Callable[[str], bool]:
    compiled = re.compile(pattern, flags)
    return lambda text: compiled.search(text) is not None


@lru_cache(maxsize=16_384)
def words(text: str) -> tuple[str, ...]:
    """Return the words of a text, without mentions, links and hashtags' signs."""
    return tuple(_WORD.findall(re.sub(r"@\w+|\bhttp\S*", " ", mask_identities(text))))


def lix(text: str) -> float:
    """Return the readability index LIX: words per sentence plus per cent of words over six letters."""
    found = words(text)
    if not found:
        return 0.0
    sentences = max(1, len(_SENTENCE_END.findall(text.rstrip())))
    long_words = sum(len(word) >= _LONG_WORD_LETTERS for word in found)
    return len(found) / sentences + 100.0 * long_words / len(found)


def _is_complex(text: str) -> bool:
    return len(words(text)) >= _COMPLEX_FEWEST_WORDS and lix(text) >= COMPLEX_LIX


def _shouts(text: str) -> bool:
    # One word may be a name, and three letters an airport; two long ones are shouting.
    return sum(word.isupper() and len(word) >= 4 for word in words(text)) >= 2


#: name -> whether a text belongs to it
SLICES: dict[str, Callable[[str], bool]] = {
    "emoji": lambda text: _EMOJI.search(text) is not None,
    # The negators of Councill, McDonald and Velikovich (2010), "What's great and what's not".
    "negation": _matches(
        r"\b(?:not?|never|none|nobody|nothing|nowhere|neither|nor|cannot|without|hardly|barely|"
        r"\w+n['’]t|(?:do|does|did|is|are|was|were|wo|ca|could|should|would|has|have|had|ai)nt)\b"
    ),
    "contrast": _matches(r"\b(?:but|although|though|however|yet|despite|except|while|whereas|still)\b"),
    "question": _matches(r"\?"),
    "exclamation": _matches(r"!"),
    # Brody and Diakopoulos (2011), "Cooooooooooooooollllllllllllll!!!!!!!!!!!!!!".
    "elongation": _matches(r"([a-z])\1{2,}(?<!www)"),
    "intensifiers": _matches(
        r"\b(?:very|really|so|too|extremely|absolutely|totally|completely|super|incredibly|insanely|"
        r"utterly|such an?|the most|ever)\b"
    ),
    "mentions": _matches(r"(?<![\w@])@\w"),
    "links": _matches(r"https?\b|\bwww\."),
    "hashtags": _matches(r"#\w"),
    "all_caps": _shouts,
    # A lexical proxy; the hashtags are those that irony corpora are collected by (Van Hee,
    # Lefever and Hoste, 2018, "SemEval-2018 Task 3"), the phrases are common marks of it.
    "irony_markers": _matches(
        r"#(?:sarcas(?:m|tic)|iron(?:y|ic)|not|yeahright|blessed|thanksfornothing)\b|/s\s*$|"
        r"\byeah,? right\b|\bthanks for nothing\b|\bjust what i needed\b|"
        r"\b(?:oh|well),? (?:great|joy|wonderful)\b|"
        r"\bhow (?:lovely|wonderful|nice|surprising)\b|\bgood job\b.*\?|\bgotta love\b|\bwhat a surprise\b|"
        r"\bas if\b|\bshocker\b|\bnice going\b|\bway to go\b|"
        # Scare quotes: one or two words in quotation marks, in lower case (not a title).
        r"(?-i:(?<!\w)[\"“][a-z]+(?: [a-z]+)?[\"”](?!\w))"
    ),
    "numbers": _matches(r"(?<![\w#@])[$£€]?\d"),
    "short": lambda text: len(words(text)) <= SHORT_WORDS,
    "long": lambda text: len(words(text)) >= LONG_WORDS,
    "complex": _is_complex,
}


def slice_masks(texts: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """Return for each of `SLICES` which texts belong to it, shape (n,)."""
    return {
        name: np.fromiter((belongs(text) for text in texts), dtype=np.bool_, count=len(texts))
        for name, belongs in SLICES.items()
    }
