"""Recipe ``linear``: mean-pooled embeddings of the frozen encoder, and a logistic regression.

The quick baseline: minutes instead of hours, served through the same door.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from tokenizers import Tokenizer
from tqdm import tqdm
from transformers import DistilBertModel

from sentiment.evaluation.data import LabelledTweets
from sentiment.records import LABELS
from sentiment.training.base import load_base
from sentiment.training.batching import pad, sorted_batches, tokenise
from sentiment.training.finetune import class_weights
from sentiment.training.inference import autocast
from sentiment.training.recipes import LinearProbe, Precision
from sentiment.training.tracking import Report

_MOST_ITERATIONS = 1_000


class MeanPooledClassifier(torch.nn.Module):
    """A linear layer on the mean of the token embeddings, masked tokens left out."""

    def __init__(self, encoder: DistilBertModel) -> None:
        super().__init__()
        self.distilbert = encoder
        self.classifier = torch.nn.Linear(encoder.config.dim, len(LABELS))

    def pool(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return the mean embedding of each text, shape (texts, width)."""
        hidden = self.distilbert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * mask).sum(dim=1) / mask.sum(dim=1)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.pool(input_ids, attention_mask))
        return logits


def fit_linear(
    train: LabelledTweets, settings: LinearProbe, *, report: Report
) -> tuple[MeanPooledClassifier, Tokenizer]:
    """Fit the linear layer on `train`; deterministic, and short enough to need no checkpoints.

    Raises:
        SettingsError: the base cannot be found.
    """
    torch.manual_seed(settings.seed)
    base, tokenizer = load_base(settings.base, max_tokens=settings.max_tokens, dropout=0.0)
    model = MeanPooledClassifier(base.distilbert).eval()
    embeddings = _embed(model, tokenise(tokenizer, train.texts), settings.batch_size, settings.precision)
    mean, scale = embeddings.mean(axis=0), np.maximum(embeddings.std(axis=0), 1e-6)
    weights = class_weights(train.labels, settings.class_weight_power).tolist()
    regression = LogisticRegression(
        C=settings.inverse_penalty, class_weight=dict(enumerate(weights)), max_iter=_MOST_ITERATIONS
    ).fit((embeddings - mean) / scale, train.labels)
    report({"iterations": float(np.max(regression.n_iter_))}, 0)
    # The standardisation of the embeddings folds into the layer: one matrix is left.
    coefficients = regression.coef_ / scale
    intercept = regression.intercept_ - coefficients @ mean
    with torch.no_grad():
        model.classifier.weight.copy_(torch.tensor(coefficients))
        model.classifier.bias.copy_(torch.tensor(intercept))
    return model, tokenizer


@torch.no_grad()
def _embed(
    model: MeanPooledClassifier, token_ids: Sequence[Sequence[int]], batch_size: int, precision: Precision
) -> npt.NDArray[np.float32]:
    """Return the pooled embeddings, shape (texts, width)."""
    result = np.empty((len(token_ids), model.distilbert.config.dim), dtype=np.float32)
    with tqdm(total=len(token_ids), unit="tweet", desc="embedding") as bar:
        for rows in sorted_batches(token_ids, batch_size):
            ids, mask = pad([token_ids[row] for row in rows])
            with autocast(torch.device("cpu"), precision):
                result[rows] = model.pool(ids, mask).float().numpy()
            bar.update(len(rows))
    return result
