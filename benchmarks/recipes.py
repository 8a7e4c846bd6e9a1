"""Which way of learning from corrections helps: variants of recipe `relearn`, each with several seeds.

A stream of labelled tweets in time order is answered by the model; users correct
every error and confirm a share of what was right. After so many corrections each
variant fine-tunes the model on them, and both are judged on the tweets that come
next and on tweets of the old domain (forgetting). The last tweets of the stream
are left alone: `benchmarks.loop` measures there.

    python -m benchmarks.recipes --stream FILE --base FILE --old FILE --json build/recipes.json
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from msgspec import Struct
from tokenizers import Tokenizer

from benchmarks.users import Said, Users, count_predictions, hear
from sentiment.classifier import Classifier
from sentiment.evaluation.data import LabelledTweets, read_tweets
from sentiment.evaluation.feedback_rows import Feedback
from sentiment.evaluation.metrics import macro_recall
from sentiment.records import LABELS, DataFingerprint
from sentiment.training.base import load_base
from sentiment.training.batching import tokenise
from sentiment.training.distributed import joined
from sentiment.training.inference import logits
from sentiment.training.mixture import mix
from sentiment.training.recipes import Relearning, members_of
from sentiment.training.relearn import relearn

#: At the end of the stream, for `benchmarks.loop` to measure on.
RESERVED = 2000

Integers = npt.NDArray[np.int64]


class Variant(Struct, frozen=True):
    """A recipe and the feedback it is given."""

    name: str
    settings: Relearning
    #: Share of the right answers that users confirm.
    confirming: float = 0.3


_DEFAULT = Relearning()


def _with(**changes: Any) -> Relearning:
    return msgspec.structs.replace(_DEFAULT, **changes)


#: As one would do it without a second thought, on the new rows and some old ones.
_PLAIN = _with(
    members=1,
    learning_rate=5e-5,
    replay=4000,
    replay_share=0.0,
    replay_emoji=0.0,
    traffic_weights=False,
    logit_adjustment=0.0,
    distillation=0.0,
    kept=0.0,
)

#: One run instead of the average of two: cheaper, and where a part is missing as telling.
_ONE = _with(members=1)

#: The plain ones, the default, one of its members, and that without each of its parts.
VARIANTS = (
    Variant("plain, errors alone", _PLAIN, confirming=0.0),
    Variant("plain, 30 % confirmed", _PLAIN),
    Variant("default, 30 % confirmed", _DEFAULT),
    Variant("one member, 30 % confirmed", _ONE),
    Variant("one, 30 %, without logit adjustment", _with(members=1, logit_adjustment=0.0)),
    Variant("one, 30 %, without traffic weights", _with(members=1, traffic_weights=False)),
    Variant("one, 30 %, without replay", _with(members=1, replay=0)),
    Variant("one, 30 %, replay with labels alone", _with(members=1, distillation=0.0, replay_emoji=0.0)),
)


class Outcome(Struct, frozen=True, kw_only=True):
    """What one training run did: differences to the model it started from, in points."""

    variant: str
    seed: int
    confirming: float
    settings: dict[str, Any]
    feedback_rows: int
    new_macro_recall: float
    new_accuracy: float
    new_recalls: list[float]
    old_macro_recall: float
    old_accuracy: float
    seconds: float


def compare(
    model: Path,
    stream: LabelledTweets,
    base: LabelledTweets,
    old: LabelledTweets,
    variants: Sequence[Variant],
    seeds: Sequence[int],
    corrections: int,
) -> Iterator[Outcome]:
    """Train every variant with every seed and yield what came of each."""
    classifier = Classifier.load(model)
    answers = classifier.probabilities(stream.texts)
    predicted = answers.argmax(axis=1)
    seen = int(np.searchsorted(np.cumsum(predicted != stream.labels), corrections)) + 1
    new = slice(seen, len(stream) - RESERVED)
    if new.stop - new.start < RESERVED // 2:
        raise SystemExit(
            f"error: after {corrections} corrections only {new.stop - new.start} tweets are left"
        )
    # Torch against torch: what int8 makes of one model or the other is not the recipe's doing.
    champion, tokenizer = load_base(str(model), max_tokens=Relearning().max_tokens, dropout=0.0)
    before = [_answers(champion, tokenizer, texts) for texts in (stream.texts[new], old.texts)]
    print(
        f"{corrections} corrections among the first {seen} tweets; judged on the next {new.stop - new.start}"
    )
    for seed in seeds:
        for variant in variants:
            started = time.perf_counter()
            # No member trains in two of the runs.
            first = 1 + (seed - 1) * variant.settings.members
            settings = msgspec.structs.replace(variant.settings, seed=first)
            said = hear(
                Users(confirming=variant.confirming, seed=seed), stream.labels[:seen], answers[:seen], 0
            )
            feedback, counts = as_feedback(said, stream), count_predictions(predicted[:seen])
            mixtures = [mix(feedback, base, counts, member) for member in members_of(settings)]
            with joined({}) as group:
                trained, tokenizer = relearn(mixtures, model, settings, group=group, report=_nothing)
            judged = [_answers(trained, tokenizer, texts) for texts in (stream.texts[new], old.texts)]
            labels = stream.labels[new]
            yield Outcome(
                variant=variant.name,
                seed=seed,
                confirming=variant.confirming,
                settings=msgspec.to_builtins(settings),
                feedback_rows=len(said),
                new_macro_recall=_gain(macro_recall, judged[0], before[0], labels),
                new_accuracy=_gain(_accuracy, judged[0], before[0], labels),
                new_recalls=[
                    round(100 * float((judged[0][labels == c] == c).mean()), 1) for c in range(len(LABELS))
                ],
                old_macro_recall=_gain(macro_recall, judged[1], before[1], old.labels),
                old_accuracy=_gain(_accuracy, judged[1], before[1], old.labels),
                seconds=round(time.perf_counter() - started),
            )


def as_feedback(said: Sequence[Said], stream: LabelledTweets) -> Feedback:
    """Return what users said as the rows that training takes."""
    return Feedback(
        texts=tuple(stream.texts[one.row] for one in said),
        labels=np.array([one.corrected for one in said], dtype=np.int64),
        predicted=np.array([one.predicted for one in said], dtype=np.int64),
        kinds=tuple("error" if one.is_error else "confirmation" for one in said),
        cycles=np.ones(len(said), dtype=np.int64),
        fingerprint=DataFingerprint(name="simulated users", sha256="", rows={}),
    )


def _answers(model: torch.nn.Module, tokenizer: Tokenizer, texts: Sequence[str]) -> Integers:
    scores = logits(model, tokenise(tokenizer, texts), torch.device("cpu"), "auto")
    return scores.argmax(axis=1).astype(np.int64)


def _gain(score: Any, candidate: Integers, champion: Integers, labels: Integers) -> float:
    return round(100 * float(score(candidate, labels) - score(champion, labels)), 2)


def _accuracy(predicted: Integers, labels: Integers) -> float:
    return float((predicted == labels).mean())


def _nothing(metrics: dict[str, float], step: int) -> None:
    """Report to nobody."""


def _line(outcome: Outcome) -> str:
    return (
        f"{outcome.variant:42} seed {outcome.seed}  new domain {outcome.new_macro_recall:+5.2f} macro-recall "
        f"{outcome.new_accuracy:+5.2f} accuracy, "
        f"old {outcome.old_macro_recall:+5.2f} {outcome.old_accuracy:+5.2f}"
    )


def render(outcomes: Sequence[Outcome]) -> str:
    """Return a Markdown table: the mean over seeds, and each seed's macro-recall."""
    lines = [
        "| variant | macro-recall | accuracy | macro-recall, old domain | accuracy, old domain | by seed |",
        "|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(outcome.variant for outcome in outcomes):
        of_variant = [outcome for outcome in outcomes if outcome.variant == name]
        means = [
            np.mean([getattr(outcome, column) for outcome in of_variant])
            for column in ("new_macro_recall", "new_accuracy", "old_macro_recall", "old_accuracy")
        ]
        by_seed = ", ".join(f"{outcome.new_macro_recall:+.1f}" for outcome in of_variant)
        lines.append(f"| {name} | {' | '.join(f'{mean:+.1f}' for mean in means)} | {by_seed} |")
    return "\n".join(lines)


def main() -> int:
    """Run, print the table, and keep the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipes", description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, default=Path("seed-model"), metavar="FOLDER")
    parser.add_argument(
        "--stream", type=Path, required=True, metavar="FILE", help="new domain, in time order"
    )
    parser.add_argument(
        "--base", type=Path, required=True, metavar="FILE", help="what the model learned from"
    )
    parser.add_argument("--old", type=Path, required=True, metavar="FILE", help="to measure forgetting")
    parser.add_argument("--corrections", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="+", default=(1, 2), metavar="N")
    parser.add_argument("--only", default="", metavar="TEXT", help="variants whose name contains this")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    outcomes = []
    for outcome in compare(
        options.model,
        read_tweets(options.stream),
        read_tweets(options.base),
        read_tweets(options.old),
        [variant for variant in VARIANTS if options.only in variant.name],
        options.seeds,
        options.corrections,
    ):
        print(_line(outcome), flush=True)
        outcomes.append(outcome)
        if options.json:
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_bytes(msgspec.json.format(msgspec.json.encode(outcomes), indent=2))
    print(f"\n{render(outcomes)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
