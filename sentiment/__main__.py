"""The command line: ``python -m sentiment COMMAND``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from sentiment.commands import feedback, judging, models, predict, retrain, steps, training
from sentiment.errors import SentimentError


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="python -m sentiment", description="Tweet sentiment that learns from its users."
    )
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for topic in (predict, training, judging, models, feedback, retrain, steps):
        topic.add(subparsers)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command; return its exit code (1: it failed for the reason printed, 2: wrong usage)."""
    options = build_parser().parse_args(arguments)
    try:
        code: int = options.run(options)
        # Here rather than at exit, so that a reader that went away (head) is noticed below.
        sys.stdout.flush()
        return code
    except SentimentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
