"""How long one explanation takes, by the length of the tweet: `python -m benchmarks.explaining`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct

from benchmarks.figures import percentile
from benchmarks.processes import PROJECT
from benchmarks.report import align
from benchmarks.tweets import generate_tweets
from sentiment.classifier import Classifier
from sentiment.errors import SentimentError
from sentiment.explanations import explain

#: The longest text that is accepted has some 900 English words.
_LONG_POST_WORDS = 900


class Line(Struct, frozen=True):
    """What was found for texts of one kind."""

    name: str
    p50_ms: float
    p99_ms: float


def measure(explain_text: Callable[[str], object], tweets: Sequence[str]) -> list[Line]:
    """Time every tweet, two tweets written as one, and a post as long as is accepted."""
    kinds = {
        "a tweet": list(tweets),
        "two in one": [" ".join(tweets[at : at + 2]) for at in range(0, len(tweets) - 1, 4)],
        "a long post": [" ".join(" ".join(tweets).split()[:_LONG_POST_WORDS])[:5000]] * 10,
    }
    explain_text(tweets[0])
    lines = []
    for name, texts in kinds.items():
        milliseconds = []
        for text in texts:
            start = time.perf_counter()
            explain_text(text)
            milliseconds.append(1e3 * (time.perf_counter() - start))
        lines.append(Line(name, percentile(milliseconds, 50), percentile(milliseconds, 99)))
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and show; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.explaining", description="Measure how long an explanation takes."
    )
    parser.add_argument("--model", type=Path, default=PROJECT / "seed-model", help="default: seed-model")
    parser.add_argument("--threads", type=int, default=0, help="of one inference; 0 is one per core")
    parser.add_argument("--tweets", type=int, default=128, help="default: %(default)s")
    arguments = parser.parse_args(argv)
    try:
        classifier = Classifier.load(arguments.model, threads=arguments.threads)
    except SentimentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    lines = measure(lambda text: explain(text, classifier), generate_tweets(arguments.tweets))
    rows = [("explain", "p50", "p99")]
    rows += [(line.name, f"{line.p50_ms:.1f} ms", f"{line.p99_ms:.1f} ms") for line in lines]
    print("\n".join(align(rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
