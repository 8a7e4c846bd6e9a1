"""Recipe ``distilbert``: fine-tune a DistilBERT classifier, resumable at any step."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from tqdm import tqdm
from transformers import DistilBertForSequenceClassification

from sentiment.evaluation.data import LabelledTweets
from sentiment.evaluation.metrics import macro_recall
from sentiment.records import LABELS
from sentiment.training.base import load_base
from sentiment.training.batching import batches_per_epoch, epoch_order, pad, tokenise
from sentiment.training.checkpoint import load_checkpoint, save_checkpoint
from sentiment.training.inference import autocast, logits
from sentiment.training.optimisation import TokenDropout, learning_rate, parameter_groups
from sentiment.training.recipes import FineTuning
from sentiment.training.soup import Weights, calibrated_loss, greedy_soup
from sentiment.training.tracking import Report

_REPORT_EVERY = 20


def fine_tune(
    train: LabelledTweets,
    validation: LabelledTweets,
    settings: FineTuning,
    *,
    checkpoints: Path,
    checkpoint_seconds: float = 120.0,
    report: Report,
) -> tuple[DistilBertForSequenceClassification, Tokenizer]:
    """Train on `train`, keep the weights with the best macro-recall on `validation`.

    A run that was killed goes on from its last checkpoint in `checkpoints` and
    sees the same batches in the same order as if it had not been.

    Raises:
        SettingsError: the base cannot be found.
        DataError: the checkpoint there is unreadable or of another run.
    """
    identity = msgspec.json.encode([settings, train.fingerprint, validation.fingerprint]).decode()
    state = load_checkpoint(checkpoints, identity) or {"members": [], "run": None}
    members: list[Weights] = state["members"]
    while True:
        torch.manual_seed(settings.seed)
        model, tokenizer = load_base(settings.base, max_tokens=settings.max_tokens, dropout=settings.dropout)
        if len(members) == settings.members:
            break
        # All members start from the same weights, head included, or their average means nothing;
        # what differs is the order of the tweets and what dropout hides.
        torch.manual_seed(settings.seed + len(members))
        run = _Run(model, tokenizer, train, validation, settings, seed=settings.seed + len(members))
        if state["run"] is not None:
            run.restore(state["run"])
            state["run"] = None

        def save(unfinished: dict[str, Any] | None) -> None:
            save_checkpoint(checkpoints, identity, {"members": members, "run": unfinished})

        _train_member(
            run, f"fine-tuning {len(members) + 1} of {settings.members}", checkpoint_seconds, save, report
        )
        members.append(run.best_weights)
        # Also after the last one: a kill during the export costs no training.
        save(None)
    validation_ids = tokenise(tokenizer, validation.texts)
    device = torch.device("cpu")

    def loss(weights: Weights) -> float:
        model.load_state_dict(weights)
        return calibrated_loss(logits(model, validation_ids, device, settings.precision), validation.labels)

    weights, joined = greedy_soup(members, loss)
    report({"members_averaged": float(joined)}, 0)
    model.load_state_dict(weights)
    return model.eval(), tokenizer


def _train_member(
    run: _Run,
    title: str,
    checkpoint_seconds: float,
    save: Callable[[dict[str, Any]], None],
    report: Report,
) -> None:
    """Train until all steps are done or nothing gets better any more."""
    saved = time.monotonic()
    prefix = f"member{run.seed - run.settings.seed + 1}_"
    with tqdm(total=run.steps, initial=run.step, unit="step", desc=title, smoothing=0.05) as bar:
        for epoch in range(run.step // run.steps_per_epoch, run.epochs):
            order = epoch_order(run.token_ids, run.settings.batch_size, seed=run.seed, epoch=epoch)
            for rows in order[run.step - epoch * run.steps_per_epoch :]:
                if run.finished:
                    return
                loss = run.advance(rows)
                bar.update()
                if run.step % _REPORT_EVERY == 0:
                    report(
                        {f"{prefix}train_loss": loss, f"{prefix}learning_rate": run.learning_rate}, run.step
                    )
                if run.step % run.evaluate_every == 0 or run.step == run.steps:
                    recall = run.evaluate()
                    report({f"{prefix}validation_macro_recall": recall}, run.step)
                    bar.set_postfix(macro_recall=f"{recall:.4f}", best=f"{run.best_recall:.4f}")
                if time.monotonic() - saved >= checkpoint_seconds:
                    save(run.state())
                    saved = time.monotonic()


class _Run:
    """The state of training one member, everything that a checkpoint holds."""

    def __init__(
        self,
        model: DistilBertForSequenceClassification,
        tokenizer: Tokenizer,
        train: LabelledTweets,
        validation: LabelledTweets,
        settings: FineTuning,
        seed: int,
    ) -> None:
        self.settings = settings
        self.seed = seed
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.to(self.device)
        self.model.distilbert.embeddings.word_embeddings.requires_grad_(not settings.freeze_embeddings)
        self.average = copy.deepcopy(self.model) if settings.average_decay else self.model
        self.token_ids = tokenise(tokenizer, train.texts)
        self.labels = torch.tensor(train.labels, dtype=torch.long)
        self.validation_ids = tokenise(tokenizer, validation.texts)
        self.validation_labels = validation.labels
        self.hide_tokens = TokenDropout(tokenizer, settings.token_dropout)
        self.class_weights = class_weights(train.labels, settings.class_weight_power).to(self.device)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(
                self.model,
                layer_decay=settings.layer_decay,
                head_factor=settings.head_learning_rate_factor,
                weight_decay=settings.weight_decay,
            ),
            fused=True,
        )
        self.steps_per_epoch = batches_per_epoch(len(self.token_ids), settings.batch_size)
        self.steps = max(1, round(self.steps_per_epoch * settings.epochs))
        self.epochs = -(-self.steps // self.steps_per_epoch)
        self.evaluate_every = max(1, self.steps_per_epoch // settings.evaluations_per_epoch)
        self.step = 0
        self.best_recall = -1.0
        self.best_step = 0
        self.best_weights: Weights = {}

    @property
    def learning_rate(self) -> float:
        """The rate of the encoder's last layer at this step: linear warm-up, linear decay."""
        return learning_rate(self.settings.learning_rate, self.step / self.steps, self.settings.warmup)

    @property
    def finished(self) -> bool:
        """All steps done, or no better result in the last `patience` evaluations."""
        overdue = self.step - self.best_step > self.settings.patience * self.evaluate_every
        return self.step >= self.steps or (self.best_step > 0 and overdue)

    def advance(self, rows: Sequence[int]) -> float:
        """Take one step on the given training rows and return its loss."""
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * group["factor"]
        ids, mask = pad([self.token_ids[row] for row in rows])
        ids = self.hide_tokens(ids)
        with autocast(self.device, self.settings.precision):
            logits = self.model(input_ids=ids.to(self.device), attention_mask=mask.to(self.device)).logits
        loss = F.cross_entropy(
            logits.float(),
            self.labels[rows].to(self.device),
            weight=self.class_weights,
            label_smoothing=self.settings.label_smoothing,
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        if self.average is not self.model:
            # Early on the average follows closely, or it would remember the untrained head.
            decay = min(self.settings.average_decay, (1 + self.step) / (10 + self.step))
            with torch.no_grad():
                torch._foreach_lerp_(
                    list(self.average.parameters()), list(self.model.parameters()), 1 - decay
                )
        return loss.item()

    def evaluate(self) -> float:
        """Return macro-recall on the validation tweets, keeping the weights if they are the best so far."""
        predicted = logits(self.average, self.validation_ids, self.device, self.settings.precision).argmax(
            axis=1
        )
        recall = macro_recall(predicted, self.validation_labels)
        if recall > self.best_recall:
            self.best_recall, self.best_step = recall, self.step
            self.best_weights = {
                name: weight.detach().cpu().clone() for name, weight in self.average.state_dict().items()
            }
        return recall

    def state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "average": self.average.state_dict() if self.average is not self.model else None,
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "best_recall": self.best_recall,
            "best_step": self.best_step,
            "best_weights": self.best_weights,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        if state["average"] is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        self.best_recall, self.best_step = state["best_recall"], state["best_step"]
        self.best_weights = state["best_weights"]


def class_weights(labels: npt.NDArray[np.int64], power: float) -> torch.Tensor:
    """Return a weight per class, (1 / frequency) ** power, scaled so that the mean over rows is one."""
    frequency = np.maximum(np.bincount(labels, minlength=len(LABELS)), 1) / len(labels)
    weights = frequency**-power
    return torch.tensor(weights / (weights * frequency).sum(), dtype=torch.float32)
