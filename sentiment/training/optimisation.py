"""What every recipe that trains an encoder shares: parameter groups, the learning rate, hidden tokens."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import DistilBertForSequenceClassification

_MASK_TOKEN = "[MASK]"
_SPECIAL_TOKENS = ("[CLS]", "[SEP]", "[PAD]")


class TokenDropout:
    """Hides a share of the tokens behind [MASK], never the special ones."""

    def __init__(self, tokenizer: Tokenizer, share: float) -> None:
        self._share = share
        self._mask = tokenizer.token_to_id(_MASK_TOKEN)
        self._special = torch.tensor([tokenizer.token_to_id(token) for token in _SPECIAL_TOKENS])

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        """Return token ids of the same shape, (texts, tokens), with some of them hidden."""
        if not self._share:
            return ids
        hidden = (torch.rand(ids.shape) < self._share) & ~torch.isin(ids, self._special)
        return ids.masked_fill(hidden, self._mask)


def learning_rate(peak: float, done: float, warmup: float) -> float:
    """Return the rate after the part `done` (0 to 1) of all steps: linear warm-up, then linear decay."""
    return peak * (done / warmup if done < warmup else (1 - done) / (1 - warmup))


def parameter_groups(
    model: DistilBertForSequenceClassification, *, layer_decay: float, head_factor: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Group what is trained by learning-rate factor and weight decay (none on biases and norms)."""
    layers = model.config.n_layers
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if name.startswith(("pre_classifier.", "classifier.")):
            factor = head_factor
        elif ".layer." in name:
            factor = layer_decay ** (layers - 1 - int(name.split(".layer.")[1].split(".")[0]))
        else:
            factor = layer_decay**layers
        decay = 0.0 if name.endswith(".bias") or "orm." in name else weight_decay
        groups.setdefault((factor, decay), []).append(parameter)
    return [
        {"params": parameters, "factor": factor, "weight_decay": decay, "lr": 0.0}
        for (factor, decay), parameters in groups.items()
    ]
