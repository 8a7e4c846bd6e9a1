"""Ways to serve one model, measured side by side: `python -m benchmarks.serving`.

On the same tweets, each in a process of its own: our classifier, ONNX Runtime
alone (the limit), the transformers pipeline (what one would write first), our
functions over HTTP, and `mlflow models serve`. No machine is equally busy for a
whole minute, so they take turns, round after round, a different one first.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.answers import BATCH
from benchmarks.contenders import TOKENISE, TOKENS_FILE, TWEETS_FILE
from benchmarks.doors import open_localhost, open_mlflow
from benchmarks.figures import DOOR, LIMIT, MLFLOW, OURS, PIPELINE, TITLES, Samples, compare, summarise
from benchmarks.machine import describe_machine
from benchmarks.measuring import Child, Contender, Effort, measure_cold_starts, measure_rounds, start_child
from benchmarks.processes import PROJECT, ContenderFailed
from benchmarks.report import ServingReport, render_markdown, render_text, update_readme, write_json
from benchmarks.store import time_pulls
from benchmarks.tweets import generate_tweets
from sentiment import manifest
from sentiment.errors import SentimentError
from sentiment.evaluation.data import read_tweets

_IN_PROCESS = (OURS, LIMIT, PIPELINE)
#: Modules without which there is no point in starting a contender.
_NEEDS = {PIPELINE: ("torch", "transformers"), MLFLOW: ("mlflow", "fastapi", "uvicorn", "pandas")}
_WHERE_FROM = "python -m pip install -r requirements-train.txt"

Progress = Callable[[str], None]


def run(
    model: Path, tweets: Sequence[str], tweets_from: str, effort: Effort, progress: Progress
) -> ServingReport:
    """Measure everything that can be measured here.

    Raises:
        SentimentError: `model` is no model folder that serves.
        ContenderFailed: our own classifier does not answer.
    """
    record, _ = manifest.read_manifest(model)
    machine = describe_machine()
    skipped: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        work = Path(folder)
        (work / TWEETS_FILE).write_text(json.dumps(tweets), encoding="utf-8")
        with start_child(TOKENISE, model, work) as tokenise:
            tokenise.answer()
        samples = _measure(model, work, tweets, effort, skipped, progress)
        pulls = _pull(model, work, effort, skipped, progress)
    figures = summarise(samples)
    return ServingReport(
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine,
        model=record.version,
        tweets=tweets_from,
        rounds=effort.rounds,
        figures=list(figures.values()),
        targets=compare(figures, statistics.median(pulls) if pulls else None),
        pull_seconds=pulls,
        skipped=skipped,
    )


def _measure(
    model: Path,
    work: Path,
    tweets: Sequence[str],
    effort: Effort,
    skipped: dict[str, str],
    progress: Progress,
) -> dict[str, Samples]:
    samples = {name: Samples(singles=[], batches=[], cold_starts=[], labels={}) for name in TITLES}
    openers = _openers(model, work, tweets)
    running: dict[str, Contender] = {}
    with ExitStack() as stack:
        for name, open_contender in openers.items():
            progress(f"starting: {TITLES[name]}")
            try:
                running[name] = _open(name, open_contender)
            except ContenderFailed as error:
                if name == OURS:
                    raise
                skipped[TITLES[name]] = str(error)
                progress(f"skipped: {TITLES[name]}: {error}")
                continue
            stack.callback(running[name].stop)
            samples[name].cold_starts.append(running[name].cold_start)
        # While servers and all idle: what a cold start costs is the same beside them.
        names = [name for name in _IN_PROCESS if name in running]
        measure_cold_starts(names, lambda name: Child(name, model, work), samples, effort, progress)
        measure_rounds(running, samples, effort, progress)
    return {name: samples[name] for name in running}


def _openers(model: Path, work: Path, tweets: Sequence[str]) -> dict[str, Callable[[], Contender]]:
    def child(name: str) -> Callable[[], Contender]:
        return lambda: Child(name, model, work)

    def mlflow() -> Contender:
        tokens = json.loads((work / TOKENS_FILE).read_bytes())
        labels = json.loads((model / manifest.CONFIG).read_bytes())["id2label"]
        return open_mlflow(model, work, tokens, labels)

    return {
        **{name: child(name) for name in _IN_PROCESS},
        DOOR: lambda: open_localhost(model, work, tweets),
        MLFLOW: mlflow,
    }


def _open(name: str, open_contender: Callable[[], Contender]) -> Contender:
    absent = [module for module in _NEEDS.get(name, ()) if importlib.util.find_spec(module) is None]
    if absent:
        raise ContenderFailed(f"{', '.join(absent)} not installed: {_WHERE_FROM}")
    return open_contender()


def _pull(
    model: Path, work: Path, effort: Effort, skipped: dict[str, str], progress: Progress
) -> list[float]:
    progress("pulling the model from Azurite")
    try:
        return time_pulls(model, work, effort.pulls)
    except ContenderFailed as error:
        skipped["pull from Azurite"] = str(error)
        progress(f"skipped: {error}")
        return []


def read_texts(data: Path | None, count: int) -> tuple[list[str], str]:
    """Return `count` tweets to measure with, evenly spread over the file `data`, and what to call them.

    Without a file they are invented.

    Raises:
        DataError: the file cannot be read.
        ValueError: it has fewer than a batch.
    """
    if data is None:
        return generate_tweets(count), f"{count} invented tweets"
    texts = read_tweets(data).texts
    if len(texts) < BATCH:
        raise ValueError(f"{data} has {len(texts)} tweets: at least {BATCH} are needed, one batch")
    count = min(count, len(texts))
    return [
        texts[position * len(texts) // count] for position in range(count)
    ], f"{count} tweets of {data.name}"


def _arguments() -> argparse.ArgumentParser:
    effort = Effort()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument(
        "--model", type=Path, default=PROJECT / "seed-model", help="model folder (default: seed-model)"
    )
    parser.add_argument("--data", type=Path, help="labelled tweets to measure with (default: invented ones)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was found")
    parser.add_argument(
        "--readme", type=Path, metavar="FILE", help="put the tables between the file's bench markers"
    )
    parser.add_argument("--rounds", type=int, default=effort.rounds, help="default: %(default)s")
    parser.add_argument("--cold-starts", type=int, default=effort.cold_starts, help="default: %(default)s")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, show, and write what was asked for; returns the exit code."""
    arguments = _arguments().parse_args(argv)
    began = time.monotonic()

    def progress(message: str) -> None:
        print(f"[{time.monotonic() - began:4.0f} s] {message}", file=sys.stderr, flush=True)

    try:
        texts, tweets_from = read_texts(arguments.data, Effort().tweets)
        effort = Effort(tweets=len(texts), rounds=arguments.rounds, cold_starts=arguments.cold_starts)
        report = run(arguments.model.resolve(), texts, tweets_from, effort, progress)
    except (SentimentError, ContenderFailed, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(render_text(report))
    if arguments.json is not None:
        write_json(arguments.json, report)
    if arguments.readme is not None:
        try:
            update_readme(arguments.readme, render_markdown(report))
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
