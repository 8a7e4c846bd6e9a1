"""Near-duplicate texts: what must not be learned because it is, in nearly these words, judged on.

Two texts are near-duplicates when the sets of their character shingles overlap
by a Jaccard index (intersection over union) of at least `THRESHOLD`: Broder
(1997), "On the resemblance and containment of documents", Compression and
Complexity of Sequences, pp. 21-29. The answer is exact, no sketch of it: the
prefix filter of Chaudhuri, Ganti and Kaushik (2006), "A Primitive Operator for
Similarity Joins in Data Cleaning", ICDE, finds the few pairs worth counting.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentiment.text import LINK, MENTION, normalise

THRESHOLD = 0.8

#: Characters in a shingle; a text that is shorter is one shingle.
SHINGLE = 5

# Mentions and links are placeholders by then: two tweets are no more alike for having them.
_PLACEHOLDER = re.compile(rf"{MENTION}\b|\b{LINK}\b", re.IGNORECASE)
_NO_WORD = re.compile(r"[\W_]+")

#: How many shingles are looked up at once when pairs are counted; bounds the memory.
_AT_ONCE = 4_000_000


class Pairs(NamedTuple):
    """Near-duplicate pairs: ``texts[left[i]]`` and ``of[right[i]]``; sorted, each pair once."""

    left: NDArray[np.int64]
    right: NDArray[np.int64]


def near_duplicates(
    texts: Sequence[str], of: Sequence[str], threshold: float = THRESHOLD
) -> NDArray[np.bool_]:
    """Return for each of `texts`, shape (n,), whether it is a near-duplicate of any text in `of`."""
    found = np.zeros(len(texts), dtype=np.bool_)
    found[near_duplicate_pairs(texts, of, threshold).left] = True
    return found


def near_duplicate_pairs(texts: Sequence[str], of: Sequence[str], threshold: float = THRESHOLD) -> Pairs:
    """Return every pair of a text and one in `of` whose Jaccard index is at least `threshold`.

    `threshold` is above 0 and at most 1. Texts are compared as the model sees
    them (`sentiment.text.normalise`), without case, punctuation, mentions and
    links; of a text that is nothing else, these are what is compared.
    """
    if not texts or not of:
        nothing = np.zeros(0, dtype=np.int64)
        return Pairs(nothing, nothing)
    sets = _shingle_sets([*texts, *of])
    sizes = np.diff(sets.starts)
    left, right = _candidates(sets, sizes, len(texts), threshold)
    # A set much larger than the other cannot be nearly the same.
    smaller, larger = np.minimum(sizes[left], sizes[right]), np.maximum(sizes[left], sizes[right])
    likely = smaller >= threshold * larger - _ROUNDING
    left, right = left[likely], right[likely]
    shared = _shared(sets, left, right)
    near = shared >= threshold * (sizes[left] + sizes[right] - shared) - _ROUNDING
    return Pairs(left[near], right[near] - len(texts))


_ROUNDING = 1e-9


class _Sets(NamedTuple):
    """Sets of shingles one after another: that of text i is ``members[starts[i]:starts[i + 1]]``.

    Shingles are numbered, the rarest lowest, and sorted within a text.
    """

    members: NDArray[np.int64]
    starts: NDArray[np.int64]


def _shingle_sets(texts: Iterable[str]) -> _Sets:
    # The padding makes a shingle of what is shorter than one; it is no character.
    keys = [_key(text) for text in texts]
    lengths = np.array([max(len(key), SHINGLE) for key in keys], dtype=np.int64)
    joined = "".join(key.ljust(SHINGLE, "\0") for key in keys)
    codes = np.frombuffer(joined.encode("utf-32-le"), dtype=np.uint32)
    used = np.zeros(int(codes.max()) + 1, dtype=np.uint64)
    used[codes] = 1
    symbols = (np.cumsum(used, dtype=np.uint64) - used)[codes]
    # Numbers to the base of the alphabet: exact up to 7,131 distinct characters, and as
    # good as a hash of 64 bits beyond.
    base = used.sum()
    shingles = np.zeros(len(codes) - SHINGLE + 1, dtype=np.uint64)
    for offset in range(SHINGLE):
        shingles = shingles * base + symbols[offset : len(shingles) + offset]
    # Where a text ends, no shingle begins.
    counts = lengths - SHINGLE + 1
    owner = np.repeat(np.arange(len(keys)), counts)
    shingles = shingles[_ranges(np.cumsum(lengths) - lengths, counts)]
    _, numbered, frequency = np.unique(shingles, return_inverse=True, return_counts=True)
    rank = np.empty(len(frequency), dtype=np.int64)
    rank[np.argsort(frequency, kind="stable")] = np.arange(len(frequency))
    combined = _distinct(owner * len(frequency) + rank[numbered])
    owner, members = np.divmod(combined, len(frequency))
    starts = np.searchsorted(owner, np.arange(len(keys) + 1))
    return _Sets(members, starts.astype(np.int64))


def _candidates(
    sets: _Sets, sizes: NDArray[np.int64], texts: int, threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs that share one of their rarest shingles: near-duplicates all do.

    To reach the threshold with any set, a set of n shingles must share at least
    ceil(threshold * n) of them; of its rarest n - ceil(threshold * n) + 1 at least one.
    """
    rarest = sizes - np.ceil(threshold * sizes - _ROUNDING).astype(np.int64) + 1
    members = sets.members[_ranges(sets.starts[:-1], rarest)]
    owner = np.repeat(np.arange(len(sizes)), rarest)
    is_left = owner < texts
    left_owner, left_members = owner[is_left], members[is_left]
    order = np.argsort(members[~is_left], kind="stable")
    right_owner, right_members = owner[~is_left][order], members[~is_left][order]
    first = np.searchsorted(right_members, left_members, side="left")
    matches = np.searchsorted(right_members, left_members, side="right") - first
    pairs = _distinct(np.repeat(left_owner, matches) * len(sizes) + right_owner[_ranges(first, matches)])
    left, right = np.divmod(pairs, len(sizes))
    return left, right


def _shared(sets: _Sets, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many shingles the sets of each pair share, shape (pairs,)."""
    sizes = np.diff(sets.starts)
    shared = np.zeros(len(left), dtype=np.int64)
    # Every (text, shingle) as one number: sorted, since texts and their shingles are.
    width = int(sets.members.max()) + 1
    everything = np.repeat(np.arange(len(sizes)), sizes) * width + sets.members
    for part in _portions(sizes[left]):
        counts, starts = sizes[left[part]], sets.starts[left[part]]
        asked = np.repeat(right[part], counts) * width + sets.members[_ranges(starts, counts)]
        place = np.searchsorted(everything, asked)
        hit = everything[np.minimum(place, len(everything) - 1)] == asked
        pair = np.repeat(np.arange(len(counts)), counts)
        shared[part] = np.bincount(pair[hit], minlength=len(counts))
    return shared


def _portions(sizes: NDArray[np.int64]) -> Iterator[slice]:
    """Yield slices of `sizes` that each add up to about `_AT_ONCE`."""
    portion = np.cumsum(sizes) // _AT_ONCE
    bounds = [0, *(np.flatnonzero(np.diff(portion)) + 1).tolist(), len(sizes)]
    yield from (slice(start, end) for start, end in pairwise(bounds) if start < end)


def _ranges(starts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return start, start + 1, ... for each of `starts`, `counts` of them, one after another."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    ranges: NDArray[np.int64] = np.arange(total) + np.repeat(starts - (ends - counts), counts)
    return ranges


def _distinct(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the distinct `values`, sorted; `np.unique` is a hundred times slower on millions of numbers."""
    values = np.sort(values)
    first = np.ones(len(values), dtype=np.bool_)
    first[1:] = values[1:] != values[:-1]
    return values[first]


def _key(text: str) -> str:
    """Return what of a text is compared."""
    normalised = normalise(text)
    words = _NO_WORD.sub(" ", _PLACEHOLDER.sub(" ", normalised)).strip().casefold()
    return words or normalised or " "
