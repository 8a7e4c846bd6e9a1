"""Recipe ``relearn``: the champion goes on learning from feedback and a replay of its base set."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm
from transformers import DistilBertForSequenceClassification

from sentiment.manifest import read_manifest
from sentiment.records import LABELS
from sentiment.training.base import load_base
from sentiment.training.batching import batches_per_epoch, epoch_order, pad, tokenise
from sentiment.training.checkpoint import load_checkpoint, save_checkpoint
from sentiment.training.distributed import Group
from sentiment.training.inference import Logits, autocast, logits
from sentiment.training.mixture import Mixture
from sentiment.training.optimisation import TokenDropout, learning_rate, parameter_groups
from sentiment.training.recipes import Relearning, members_of
from sentiment.training.soup import Weights, average
from sentiment.training.tracking import Report

_REPORT_EVERY = 20


def relearn(
    mixtures: Sequence[Mixture],
    champion: Path,
    settings: Relearning,
    *,
    group: Group,
    checkpoints: Path | None = None,
    checkpoint_seconds: float = 60.0,
    report: Report,
) -> tuple[DistilBertForSequenceClassification, Tokenizer]:
    """Return the classifier in the folder `champion` after training on `mixtures`, and its tokenizer.

    Each of `members_of(settings)` starts from the champion and learns its own
    mixture; the result is the average of their weights. In a `group` of several
    processes each takes a part of every batch, and all end with the same weights. A
    run that was killed goes on from its last checkpoint in `checkpoints`.

    Raises:
        ValueError: there are not as many mixtures as members.
        SettingsError: the champion has no encoder that can be trained.
        InvalidModel: it has no manifest to tell checkpoints apart by.
        DataError: the checkpoint there is unreadable or of another run.
    """
    members = members_of(settings)
    if len(mixtures) != len(members):
        raise ValueError(f"{len(members)} members need as many mixtures, got {len(mixtures)}")
    model, tokenizer = load_base(str(champion), max_tokens=settings.max_tokens, dropout=settings.dropout)
    ended: list[Weights] = []
    state: dict[str, Any] | None = None
    identity = ""
    # Processes that go on from different steps would wait for each other for ever: only a run alone does.
    if checkpoints is not None and group.size == 1:
        digests = [mixture.digest for mixture in mixtures]
        identity = msgspec.json.encode([settings, digests, read_manifest(champion)[1]]).decode()
        if state := load_checkpoint(checkpoints, identity):
            ended = state["ended"]
    else:
        checkpoints = None
    saved = time.monotonic()
    with tqdm(unit="step", desc="relearning", disable=not group.leads) as bar:
        for mixture, member in list(zip(mixtures, members, strict=True))[len(ended) :]:
            torch.manual_seed(member.seed + group.rank)
            learner = copy.deepcopy(model).to(group.device)
            run = _Run(learner, tokenizer, mixture, member, group)
            bar.total = run.steps * len(members)
            if state:
                run.restore(state["run"])
                bar.update(run.steps * len(ended) + run.step)
                state = None
            for rows in run.batches():
                loss = run.advance(rows)
                bar.update()
                if group.leads and run.step % _REPORT_EVERY == 0:
                    step = run.steps * len(ended) + run.step
                    report({"train_loss": loss, "learning_rate": run.learning_rate}, step)
                if checkpoints is not None and time.monotonic() - saved >= checkpoint_seconds:
                    save_checkpoint(checkpoints, identity, {"ended": ended, "run": run.state()})
                    saved = time.monotonic()
            ended.append({name: weight.detach().cpu() for name, weight in learner.state_dict().items()})
    before, after = model.state_dict(), average(ended)
    model.load_state_dict({name: torch.lerp(after[name], before[name], settings.kept) for name in before})
    return model.eval(), tokenizer


class _Run:
    """The state of training, everything that a checkpoint holds."""

    def __init__(
        self,
        model: DistilBertForSequenceClassification,
        tokenizer: Tokenizer,
        mixture: Mixture,
        settings: Relearning,
        group: Group,
    ) -> None:
        self.settings = settings
        self.group = group
        self.model = model
        model.distilbert.embeddings.word_embeddings.requires_grad_(not settings.freeze_embeddings)
        self.token_ids = tokenise(tokenizer, mixture.texts)
        self.targets = targets(model, self.token_ids, mixture, settings, group.device)
        self.weights = torch.tensor(mixture.weights, dtype=torch.float32)
        self.offsets = torch.tensor(mixture.offsets, dtype=torch.float32)
        self.hide_tokens = TokenDropout(tokenizer, settings.token_dropout)
        self.forward: torch.nn.Module = Logits(model)
        if group.size > 1:
            self.forward = DistributedDataParallel(self.forward)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(
                model,
                layer_decay=settings.layer_decay,
                head_factor=settings.head_learning_rate_factor,
                weight_decay=settings.weight_decay,
            ),
            fused=True,
        )
        self.steps_per_epoch = batches_per_epoch(len(self.token_ids), settings.batch_size)
        self.steps = max(1, round(self.steps_per_epoch * settings.epochs))
        self.step = 0

    @property
    def learning_rate(self) -> float:
        # From the middle of the step: the first one is not wasted on a rate of zero.
        done = (self.step + 0.5) / self.steps
        return learning_rate(self.settings.learning_rate, done, self.settings.warmup)

    def batches(self) -> Iterator[list[int]]:
        """Yield the rows of each step that is left."""
        settings = self.settings
        while self.step < self.steps:
            epoch, taken = divmod(self.step, self.steps_per_epoch)
            order = epoch_order(self.token_ids, settings.batch_size, seed=settings.seed, epoch=epoch)
            yield from order[taken : taken + self.steps - self.step]

    def advance(self, rows: list[int]) -> float:
        """Take one step and return this process's part of the loss."""
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * group["factor"]
        # A batch smaller than the group: every process has to take part, on a row of weight zero if need be.
        mine = rows[self.group.rank :: self.group.size]
        taken = mine or rows[:1]
        ids, mask = pad([self.token_ids[row] for row in taken])
        weights = self.weights[taken] * bool(mine)
        with autocast(self.group.device, self.settings.precision):
            output = self.forward(self.hide_tokens(ids).to(self.group.device), mask.to(self.group.device))
        losses = F.cross_entropy(
            output.float() + self.offsets[taken].to(self.group.device),
            self.targets[taken].to(self.group.device),
            reduction="none",
        )
        # The group averages gradients over its processes; the mean is over the rows of the whole batch.
        loss = (losses * weights.to(self.group.device)).sum() * self.group.size / len(rows)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        return loss.item()

    def state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])


def targets(
    model: DistilBertForSequenceClassification,
    token_ids: list[list[int]],
    mixture: Mixture,
    settings: Relearning,
    device: torch.device,
) -> torch.Tensor:
    """Return what each row is to be answered with, (rows, 3): its label, mixed with what `model` says."""
    labels = F.one_hot(torch.tensor(mixture.labels), len(LABELS)).float()
    result = labels * (1 - settings.label_smoothing) + settings.label_smoothing / len(LABELS)
    rows = np.flatnonzero(mixture.taught)
    if len(rows):
        said = torch.tensor(logits(model, [token_ids[row] for row in rows], device, settings.precision))
        share = torch.tensor(mixture.taught[rows], dtype=torch.float32)[:, None]
        result[rows] = (1 - share) * result[rows] + share * torch.softmax(said, dim=1)
    return result
