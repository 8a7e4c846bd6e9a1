"""Tokenised tweets in batches of similar length."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from tokenizers import Tokenizer

from sentiment.text import normalise

#: Texts are sorted by length within this many batches: nearly no padding, and
#: still another mixture in every epoch.
_WINDOW = 50


def tokenise(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of each text, normalised as serving does."""
    return [encoding.ids for encoding in tokenizer.encode_batch([normalise(text) for text in texts])]


def pad(token_ids: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and attention mask, both (texts, longest) int64."""
    width = max(map(len, token_ids))
    ids = torch.zeros(len(token_ids), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, tokens in enumerate(token_ids):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
    return ids, mask


def epoch_order(
    token_ids: Sequence[Sequence[int]], batch_size: int, *, seed: int, epoch: int
) -> list[list[int]]:
    """Return the batches of one epoch as row numbers: a function of its arguments alone.

    That makes a resumed run see what the killed one would have seen.
    """
    random = np.random.default_rng((seed, epoch))
    shuffled = random.permutation(len(token_ids)).tolist()
    batches: list[list[int]] = []
    window = batch_size * _WINDOW
    for start in range(0, len(shuffled), window):
        rows = sorted(shuffled[start : start + window], key=lambda row: len(token_ids[row]))
        chunk = [rows[at : at + batch_size] for at in range(0, len(rows), batch_size)]
        random.shuffle(chunk)
        batches.extend(chunk)
    return batches


def batches_per_epoch(rows: int, batch_size: int) -> int:
    """Return how many batches `epoch_order` makes."""
    full, rest = divmod(rows, batch_size * _WINDOW)
    return full * _WINDOW + math.ceil(rest / batch_size)


def sorted_batches(token_ids: Sequence[Sequence[int]], batch_size: int) -> Iterator[list[int]]:
    """Yield row numbers, shortest texts first, for evaluation."""
    order = sorted(range(len(token_ids)), key=lambda row: len(token_ids[row]))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
