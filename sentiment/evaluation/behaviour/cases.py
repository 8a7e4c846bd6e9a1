"""What a case of the behaviour suite is, and how templates are filled."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

from msgspec import Struct

from sentiment.records import Label

#: Minimum functionality test, invariance test, directional expectation test
#: (Ribeiro et al., 2020, "Beyond Accuracy: Behavioral Testing of NLP Models with CheckList").
TestKind = Literal["MFT", "INV", "DIR"]

POSITIVE: tuple[Label, ...] = ("positive",)
NEUTRAL: tuple[Label, ...] = ("neutral",)
NEGATIVE: tuple[Label, ...] = ("negative",)
NOT_POSITIVE: tuple[Label, ...] = ("negative", "neutral")
NOT_NEGATIVE: tuple[Label, ...] = ("neutral", "positive")


class Case(Struct, frozen=True, kw_only=True):
    """One test.

    MFT: the text's label is one of `allowed`. INV: all `texts` get the label of the
    first. DIR: from the first text to each other one, the probability of `rises`
    does not fall, and that of `falls` does not rise, beyond a tolerance.
    """

    id: str
    capability: str
    kind: TestKind
    texts: tuple[str, ...]
    allowed: tuple[Label, ...] = ()
    rises: Label | None = None
    falls: Label | None = None


def spread(count: int, *choices: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield `count` different combinations of one of each of `choices`, far apart from each other.

    Walks all combinations in steps of about their number divided by the golden
    ratio, so that even a few of them use most of the words. Deterministic.
    """
    total = math.prod(map(len, choices))
    if count > total:
        raise ValueError(f"{count} combinations were asked for, there are {total}")
    step = max(1, round(total * 0.6180339887))
    while math.gcd(step, total) != 1:
        step += 1
    for number in range(count):
        position = number * step % total
        combination = []
        for choice in choices:
            position, place = divmod(position, len(choice))
            combination.append(choice[place])
        yield tuple(combination)


def sentence(text: str) -> str:
    """Return `text` with its first letter in upper case."""
    return text[:1].upper() + text[1:]
