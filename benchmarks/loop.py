"""Whether the service learns: tweets of another domain in time order, corrected by simulated users.

The model answers; users correct what is wrong (and confirm a share of what is
right); the rules of acceptance judge what they say. Whenever enough errors are
accepted, a cycle runs as it does in production: the rows are prepared, and
`python -m sentiment step train | evaluate | gate` make and judge a candidate,
which serves from then on if the gate says so. After every cycle the model that
serves is measured on the last tweets of the stream, which nobody has seen, and on
tweets of the old domain (forgetting).

    python -m benchmarks.loop --stream FILE --base FILE --old FILE --out build/loop

Of the old tweets every fourth is in the validation set of every cycle and the others
are the golden set, so their figures are of tweets that chose temperatures and
verdicts, though nothing was trained on them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from benchmarks.recipes import RESERVED
from benchmarks.users import Said, Users, hear
from sentiment.acceptance import judge
from sentiment.classifier import Classifier
from sentiment.evaluation.data import LabelledTweets, read_tweets
from sentiment.evaluation.feedback_rows import encode_feedback
from sentiment.evaluation.metrics import macro_recall
from sentiment.feedback.messages import text_key
from sentiment.manifest import read_manifest
from sentiment.records import LABELS
from sentiment.retrain import preparation

#: Accepted errors, all cycles together, after which the next cycle runs, or when the stream ends.
CYCLES = (200, 500, 1000, 2000)
_USER_CAP = 0.2
#: Tweets that are answered before the errors are counted again.
_BETWEEN_COUNTS = 32


class Scenario(Struct, frozen=True):
    """How users behave, and what stands between them and the model."""

    name: str
    users: Users
    #: Whether the rules of acceptance are applied, and whether the gate's refusals count.
    rules: bool = True
    gate: bool = True


SCENARIOS = (
    Scenario("30 % confirmed", Users(confirming=0.3)),
    Scenario("all confirmed", Users(confirming=1.0)),
    Scenario("errors alone", Users()),
    Scenario("20 % hostile", Users(confirming=0.3, hostile=0.2)),
    Scenario("20 % hostile, no rules, no gate", Users(confirming=0.3, hostile=0.2), rules=False, gate=False),
)


class Scores(Struct, frozen=True):
    """Macro-recall and accuracy, 0 to 1."""

    macro_recall: float
    accuracy: float


class Point(Struct, frozen=True, kw_only=True):
    """One cycle: what it learned from, what the gate said, and the model that served after it."""

    scenario: str
    cycle: int
    seen: int
    errors: int
    confirmations: int
    verdict: str
    reasons: list[str]
    candidate_new: Scores | None
    candidate_old: Scores | None
    serving: str
    serving_new: Scores
    serving_old: Scores
    seconds: float


class Data(Struct, frozen=True):
    """The files: the stream (with its end to measure on), the base set, the old domain and its two parts."""

    stream: LabelledTweets
    base: LabelledTweets
    old: LabelledTweets
    validation: list[int]
    golden: list[int]


def simulate(scenario: Scenario, data: Data, model: Path, out: Path, cycles: Sequence[int]) -> list[Point]:
    """Play one scenario to the end of the stream and return what every cycle did."""
    end = len(data.stream) - RESERVED
    world = _World(scenario, data, model, out)
    points = [world.point(0, 0, [], "start", [], None, None, 0.0)]
    seen = 0
    for number, wanted in enumerate(cycles, start=1):
        while seen < end and len(world.accepted_errors()) + world.learned_errors < wanted:
            seen = world.serve(seen, min(seen + _BETWEEN_COUNTS, end))
        points.append(world.run_cycle(number, seen))
        print(_line(points[-1]), flush=True)
        if seen == end:
            break
    return points


class _World:
    """The service of one scenario: its champion, what it was told, what it learned."""

    def __init__(self, scenario: Scenario, data: Data, model: Path, out: Path) -> None:
        self.scenario, self.data, self.out = scenario, data, out
        self.champion = model
        self.classifier = Classifier.load(model)
        self.pending: list[Said] = []
        #: What promoted models have learned, with the cycle.
        self.learned: list[tuple[Said, int]] = []
        #: Predictions per class since the last promotion.
        self.predictions: Counter[str] = Counter()

    @property
    def learned_errors(self) -> int:
        return sum(said.is_error for said, _ in self.learned)

    def serve(self, start: int, stop: int) -> int:
        """Answer tweets, hear what users say of the answers, and return where to go on."""
        answers = self.classifier.probabilities(self.data.stream.texts[start:stop])
        self.predictions.update(LABELS[answer] for answer in answers.argmax(axis=1))
        self.pending += hear(self.scenario.users, self.data.stream.labels[start:stop], answers, start)
        return stop

    def accepted(self) -> list[Said]:
        if not self.scenario.rules:
            return self.pending
        voices = {said.row: said.voice(text_key(self._text(said))) for said in self.pending}
        judged = judge(voices.values(), user_cap=_USER_CAP)
        return [
            said
            for said in self.pending
            if (verdict := judged[voices[said.row].id]).state == "accepted"
            and (verdict.counts or not said.is_error)
        ]

    def accepted_errors(self) -> list[Said]:
        return [said for said in self.accepted() if said.is_error]

    def run_cycle(self, number: int, seen: int) -> Point:
        started = time.perf_counter()
        accepted = self.accepted()
        folder = self.out / f"cycle-{number}"
        shutil.rmtree(folder, ignore_errors=True)
        self._prepare(folder / "data", number, accepted)
        _step("train", "--data", folder / "data", "--out", folder / "candidate", *_tracking(self.out))
        predictions = {}
        for name, model in (("champion", self.champion), ("candidate", folder / "candidate")):
            predictions[name] = folder / f"{name}.json"
            _step("evaluate", "--data", folder / "data", "--model", model, "--out", predictions[name])
        _step(
            "gate",
            *("--champion", predictions["champion"], "--candidate", predictions["candidate"]),
            *("--out", folder / "gate"),
        )
        verdict = json.loads((folder / "gate" / "gate.json").read_bytes())
        candidate = Classifier.load(folder / "candidate")
        scores = self._measure(candidate)
        if verdict["verdict"] == "promote" or not self.scenario.gate:
            self.champion, self.classifier = folder / "candidate", candidate
            self.learned += [(said, number) for said in accepted]
            taken = {said.row for said in accepted}
            self.pending = [said for said in self.pending if said.row not in taken]
            self.predictions.clear()
        seconds = time.perf_counter() - started
        return self.point(number, seen, accepted, verdict["verdict"], verdict["reasons"], *scores, seconds)

    def point(
        self,
        number: int,
        seen: int,
        accepted: Sequence[Said],
        verdict: str,
        reasons: list[str],
        candidate_new: Scores | None,
        candidate_old: Scores | None,
        seconds: float,
    ) -> Point:
        errors = sum(said.is_error for said in accepted)
        serving_new, serving_old = self._measure(self.classifier)
        promoted = verdict == "promote" or not self.scenario.gate
        return Point(
            scenario=self.scenario.name,
            cycle=number,
            seen=seen,
            errors=self.learned_errors + (0 if promoted else errors),
            confirmations=len(self.learned)
            - self.learned_errors
            + (0 if promoted else len(accepted) - errors),
            verdict=verdict,
            reasons=reasons,
            candidate_new=candidate_new,
            candidate_old=candidate_old,
            serving=read_manifest(self.champion)[0].version,
            serving_new=serving_new,
            serving_old=serving_old,
            seconds=round(seconds),
        )

    def _measure(self, classifier: Classifier) -> tuple[Scores, Scores]:
        stream = self.data.stream
        new = _score(classifier, stream.texts[-RESERVED:], stream.labels[-RESERVED:])
        return new, _score(classifier, self.data.old.texts, self.data.old.labels)

    def _prepare(self, folder: Path, number: int, accepted: Sequence[Said]) -> None:
        """Write what `step prepare` writes, from the users' words rather than from storage."""
        said = [*self.learned, *((each, number) for each in accepted)]
        rows = preparation.prepare_rows(
            [
                preparation.Said(
                    text=self._text(each),
                    predicted=LABELS[each.predicted],
                    corrected=LABELS[each.corrected],
                    cycle=cycle,
                    at=f"{each.row:09}",
                )
                for each, cycle in said
            ],
            base=self.data.base.texts,
            validation=[self.data.old.texts[row] for row in self.data.validation],
            golden=[self.data.old.texts[row] for row in self.data.golden],
            cycle=number,
        )
        folder.mkdir(parents=True)
        (folder / preparation.CHAMPION_FOLDER).symlink_to(self.champion.resolve())
        (folder / preparation.FEEDBACK).write_bytes(encode_feedback(rows.feedback))
        (folder / preparation.HELD_OUT).write_bytes(encode_feedback(rows.held_out))
        _write_tsv(folder / preparation.BASE, self.data.base, rows.base)
        _write_tsv(folder / preparation.VALIDATION, self.data.old, self.data.validation)
        _write_tsv(folder / preparation.GOLDEN, self.data.old, self.data.golden)
        cycle = {"cycle": number, "predictions": self.predictions}
        (folder / preparation.CYCLE).write_bytes(msgspec.json.encode(cycle))

    def _text(self, said: Said) -> str:
        return self.data.stream.texts[said.row]


def _step(name: str, *arguments: str | Path) -> None:
    command = [sys.executable, "-m", "sentiment", "step", name, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    if done.returncode:
        raise SystemExit(f"error: {' '.join(command)}\n{done.stderr[-3000:]}")


def _tracking(out: Path) -> tuple[str, str]:
    return "--tracking-uri", f"sqlite:///{out / 'mlflow.db'}"


def _write_tsv(path: Path, tweets: LabelledTweets, rows: Sequence[int]) -> None:
    lines = [f"{LABELS[tweets.labels[row]]}\t{tweets.texts[row]}" for row in rows]
    path.write_text("\n".join(["label\ttext", *lines]) + "\n", encoding="utf-8")


def _score(classifier: Classifier, texts: Sequence[str], labels: np.ndarray) -> Scores:
    predicted = classifier.probabilities(texts).argmax(axis=1)
    return Scores(round(macro_recall(predicted, labels), 4), round(float((predicted == labels).mean()), 4))


def _line(point: Point) -> str:
    return (
        f"{point.scenario}: cycle {point.cycle} after {point.seen} tweets, {point.errors} errors and "
        f"{point.confirmations} confirmations: {point.verdict}; serving {point.serving_new.macro_recall:.4f} "
        f"(accuracy {point.serving_new.accuracy:.4f}), old {point.serving_old.macro_recall:.4f}; "
        f"{point.seconds:.0f} s {point.reasons or ''}"
    )


def main() -> int:
    """Play the scenarios and keep what came of them: one JSON file each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loop", description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, default=Path("seed-model"), metavar="FOLDER")
    parser.add_argument(
        "--stream", type=Path, required=True, metavar="FILE", help="new domain, in time order"
    )
    parser.add_argument(
        "--base", type=Path, required=True, metavar="FILE", help="what the model learned from"
    )
    parser.add_argument("--old", type=Path, required=True, metavar="FILE", help="to measure forgetting")
    parser.add_argument("--out", type=Path, default=Path("build/loop"), metavar="FOLDER")
    parser.add_argument(
        "--cycles", type=int, nargs="+", default=CYCLES, metavar="N", help="errors at each cycle"
    )
    parser.add_argument("--scenario", choices=[each.name for each in SCENARIOS], help="(default: all)")
    options = parser.parse_args()
    old = read_tweets(options.old)
    data = Data(
        stream=read_tweets(options.stream),
        base=read_tweets(options.base),
        old=old,
        validation=[row for row in range(len(old)) if row % 4 == 0],
        golden=[row for row in range(len(old)) if row % 4],
    )
    for scenario in SCENARIOS:
        if options.scenario in (None, scenario.name):
            folder = options.out / "".join(letter if letter.isalnum() else "-" for letter in scenario.name)
            folder.mkdir(parents=True, exist_ok=True)
            points = simulate(scenario, data, options.model, folder, options.cycles)
            (folder / "points.json").write_bytes(msgspec.json.format(msgspec.json.encode(points), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
