"""What the gate is told to hold (`GatePolicy`) and what it answers (`GateReport`)."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from sentiment.evaluation.prediction_files import Latency, ModelIdentity
from sentiment.records import DataFingerprint

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Level = Annotated[float, Meta(gt=0.5, lt=1.0)]
Count = Annotated[int, Meta(ge=1)]


class GatePolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All numbers of the gate.

    The margins on the golden set come from its power: two models of the same recipe
    answer 12 to 15 % of tweets differently, so that on 2,000 tweets (312 of the rarest
    class) the standard error of the difference is about 0.010 for macro-recall and
    0.0085 for accuracy. A candidate that is exactly as good passes nine times out of
    ten if the margin is 1.64 + 1.28 standard errors. On 1,000 tweets the same margins
    let it pass three times out of four: a small golden set refuses, it does not wave through.
    Held-out corrections are fewer and weighted: with 600 rows the standard error of
    macro-recall is about 0.02, so the margin there is wider.

    Cases of the behaviour suite are made from templates, and those of one template
    are failed together, so a test that takes them as independent sees more than there
    is; the tolerance of a capability is therefore that of half a template or so.
    """

    resamples: Count = 2_000
    golden_rows: Annotated[int, Meta(description="Fewest rows of the golden set.")] = 300
    class_rows: Annotated[int, Meta(description="Fewest rows of each of its classes.")] = 30
    confidence: Annotated[Level, Meta(description="Of every 'not worse', one-sided.")] = 0.95
    macro_recall_margin: Annotated[Share, Meta(description="Loss to be ruled out on the golden set.")] = 0.03
    accuracy_margin: Annotated[Share, Meta(description="Loss to be ruled out on the golden set.")] = 0.025
    traffic_margin: Annotated[
        Share, Meta(description="Loss of macro-recall or accuracy to be ruled out on held-out corrections.")
    ] = 0.05
    improvement_confidence: Annotated[
        Level, Meta(description="That the mean of macro-recall and accuracy is better.")
    ] = 0.90
    class_tolerance: Annotated[
        Share, Meta(description="Loss of a class or a slice that is refused when it is significant.")
    ] = 0.02
    class_drop: Annotated[Share, Meta(description="Loss of a class's recall that is always refused.")] = 0.05
    drop_rows: Annotated[int, Meta(description="Fewest rows of a class or a slice to be judged.")] = 50
    representative_rows: Annotated[
        int, Meta(description="Fewest held-out confirmations and samples to judge traffic by.")
    ] = 30
    behaviour_required: Annotated[
        bool, Meta(description="Whether a model that was not run on the behaviour suite is refused.")
    ] = True
    behaviour_margin: Annotated[
        Share, Meta(description="How much the behaviour suite's failure rate may rise, all cases together.")
    ] = 0.03
    behaviour_tolerance: Annotated[
        Share, Meta(description="Rise of a capability's failure rate that is refused when it is significant.")
    ] = 0.10
    calibration_margin: Annotated[
        Share, Meta(description="How much the expected calibration error may rise.")
    ] = 0.02
    calibration_enough: Annotated[
        Share, Meta(description="An expected calibration error that is never refused.")
    ] = 0.05
    latency_ratio: Annotated[float, Meta(ge=1.0, description="Slowest median against the champion's.")] = 1.25
    latency_slack_ms: Annotated[
        float, Meta(ge=0.0, description="Milliseconds that are never refused: a clock's noise.")
    ] = 1.0


class Bounds(Struct, frozen=True):
    """A number and its two-sided percentile interval (see `GateReport.interval`)."""

    value: float
    low: float
    high: float


class Pair(Struct, frozen=True, kw_only=True):
    """A measure of both models and candidate less champion."""

    champion: Bounds
    candidate: Bounds
    difference: Bounds


class Comparison(Struct, frozen=True, kw_only=True):
    """Both models on one set. `recalls` has the classes that occur."""

    rows: int
    macro_recall: Pair
    accuracy: Pair
    recalls: dict[str, Pair]
    support: dict[str, int]
    fixed: int
    broken: int


class Traffic(Struct, frozen=True, kw_only=True):
    """Both models on held-out corrections, weighted to stand for all that was asked."""

    comparison: Comparison
    errors: int
    confirmations: int
    samples: int
    representative: bool
    weights: Annotated[
        Literal["counted", "assumed"],
        Meta(description="From counts of all predictions, or from the accuracy on the golden set."),
    ]


class SliceComparison(Struct, frozen=True, kw_only=True):
    """Accuracy of both models on one kind of tweets.

    `chance` is that of so many broken rows if the candidate were as good (exact
    sign test), adjusted for looking at all slices (Holm); None: too few rows to judge.
    """

    rows: int
    accuracy: Pair
    fixed: int
    broken: int
    chance: float | None


class BehaviourComparison(Struct, frozen=True, kw_only=True):
    """Cases of one capability that each model fails; `chance` as for a slice."""

    cases: int
    champion: int
    candidate: int
    fixed: int
    broken: int
    chance: float


class Example(Struct, frozen=True, kw_only=True):
    """A tweet that only one of the models answers rightly."""

    text: str
    label: str
    champion: str
    candidate: str


class Examples(Struct, frozen=True, kw_only=True):
    """What the candidate fixed and what it broke, a few of each."""

    fixed: tuple[Example, ...]
    broken: tuple[Example, ...]


class Check(Struct, frozen=True, kw_only=True):
    """One thing that has to hold: a stable name, whether it does, and the numbers."""

    name: str
    passed: bool
    detail: str


class GateReport(Struct, frozen=True, kw_only=True):
    """The verdict and all it rests on. What could not be measured is None or empty."""

    schema: Literal[1] = 1
    verdict: Literal["promote", "refuse"]
    reasons: Annotated[tuple[str, ...], Meta(description="`check: numbers` of every check that failed.")]
    champion: ModelIdentity | None
    candidate: ModelIdentity | None
    policy: GatePolicy
    seed: int
    interval: Annotated[float, Meta(description="What the intervals are meant to cover.")]
    checks: tuple[Check, ...]
    data: dict[str, DataFingerprint] = {}
    golden: Comparison | None = None
    traffic: Traffic | None = None
    slices: dict[str, SliceComparison] = {}
    behaviour: dict[str, BehaviourComparison] = {}
    calibration: tuple[float, float] | None = None
    latency: tuple[Latency, Latency] | None = None
    golden_examples: Examples | None = None
    heldout_examples: Examples | None = None
