"""``demo``: the command, what it may be told, and its last words."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

from localhost.console import say
from localhost.demo.material import PIPELINE_FILES, gather
from localhost.demo.story import Plan, Result, Score, play
from localhost.errors import LocalhostError

#: Below the state folder: that of the demonstration, emptied when it begins.
FOLDER = "demo"
#: A fifth of what is said is held out. Where people confirm a third of what was right, 300 corrections
#: are too little for the gate to be sure of three points, and it refuses; where they confirm all, it is sure.
CORRECTIONS, CONFIRM = 300, 1.0


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``demo`` to the commands."""
    parser = commands.add_parser(
        "demo",
        help="play the whole loop: correct, retrain, judge, promote",
        description="Start the app with its storage and a local Azure ML in a state folder of their own, "
        "send it tweets, correct what it gets wrong, have the timer fire, and see what comes of it. Exit "
        "code 0: all of it worked, and no request failed; also where the gate refused, which is then said.",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FILE",
        help="labelled tweets (.tsv, .csv, .jsonl) in the order of their time: the first 80 %% are sent, "
        "the last 20 %% are measured on (default: from the package index)",
    )
    parser.add_argument(
        "--corrections", type=_count, default=CORRECTIONS, metavar="N", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--confirm",
        type=_share,
        default=CONFIRM,
        metavar="SHARE",
        help="of the right answers, so many are confirmed (default: %(default)s)",
    )
    for name in PIPELINE_FILES:
        parser.add_argument(
            f"--{name}",
            type=Path,
            metavar="FILE",
            help="what the pipeline reads (default: from the package index)",
        )


def demo(options: argparse.Namespace, data: Path) -> int:
    """Play the loop and return the exit code; tweets that are fetched are kept in `data`."""
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("mlflow") is None:
        raise LocalhostError(
            "the demonstration trains a model: pip install -r requirements-train.txt (make loop-demo does)"
        )
    plan = Plan(
        app=options.app.resolve(),
        state=options.state / FOLDER,
        programs=options.state / "programs",
        port=0 if options.port is None else options.port,
        material=gather(options.data, {name: getattr(options, name) for name in PIPELINE_FILES}, data),
        corrections=options.corrections,
        confirm=options.confirm,
    )
    try:
        result = play(plan)
    except KeyboardInterrupt:
        say("Stopped before it was over.")
        return 130
    for line in describe(result, plan.state):
        say(line)
    return 1 if result.failures else 0


def describe(result: Result, state: Path) -> list[str]:
    """Return what a person is told at the end."""
    lines = [
        "",
        f"{'on tweets held out':<46}{'accuracy':>10}{'macro-recall':>14}",
        _row(f"before: {result.before.version}", result.before),
    ]
    if result.verdict == "promoted":
        lines += [
            _row(f"after:  {result.candidate.version}", result.candidate),
            "",
            f"The gate promoted what {result.corrections:,} corrections and {result.confirmations:,} "
            f"confirmations taught; {result.learned:,} of them are learned.",
        ]
    else:
        lines += [
            _row(f"refused: {result.candidate.version}", result.candidate),
            "",
            "The gate REFUSED the candidate; the model from before serves on, and the corrections wait for",
            "the next cycle. Why:",
            *(f"  {reason}" for reason in result.reasons),
        ]
    lines += [
        f"{result.requests:,} predictions were asked for meanwhile, {len(result.failures)} failed.",
        *(f"  {failure}" for failure in result.failures[:10]),
        f"It took {result.seconds / 60:.1f} minutes.",
        "",
        "To look further:",
        f"  python -m localhost --state {state} jobs {result.job}",
        f"  python -m localhost --state {state}     # starts the app again; then, beside it:",
        f'  eval "$(python -m localhost --state {state} env)" && python -m sentiment retrain status',
    ]
    return lines


def _row(name: str, score: Score) -> str:
    return f"{name:<46}{score.accuracy:>10.1%}{score.macro_recall:>14.1%}"


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"must be a positive whole number, got {text!r}")
    return int(text)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        raise argparse.ArgumentTypeError(f"must be a share from 0 to 1, got {text!r}")
    return share
