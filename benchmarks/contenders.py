"""What answers in a process of its own: `python -m benchmarks.contenders NAME MODEL WORK`.

Loads, answers the first tweet, and then does what each line of standard input
asks: {"command": "singles", "items": [...]} or {"command": "batches", ...}, one
line of JSON for another. It is timed on this side of the pipe, so that the pipe
costs nothing. WORK holds tweets.json and, for what takes tokens, tokens.json.

Only the contender that needs a library imports it: what that costs at a cold
start is part of what is measured.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.answers import BATCH, Answers, time_batches, time_singles
from benchmarks.figures import LIMIT, OURS, PIPELINE

TWEETS_FILE = "tweets.json"
TOKENS_FILE = "tokens.json"
#: Not a contender: writes what the graph is fed for each tweet and batch, and ends.
TOKENISE = "tokenise"


def load_classifier(model: Path, work: Path) -> Answers:
    """What serves: normalises, tokenises, runs the graph, makes records of the answers."""
    from sentiment.classifier import Classifier

    tweets = _read(work / TWEETS_FILE)
    classifier = Classifier.load(model)
    return Answers(
        single=lambda tweet: classifier.predict([tweets[tweet]]),
        batch=lambda number: classifier.predict(_batch(tweets, number)),
        label=lambda predictions: predictions[0].label,
    )


def load_pipeline(model: Path, work: Path) -> Answers:
    """What a user of transformers would write, in the float32 that processors are quick in."""
    import torch
    from transformers import pipeline

    tweets = _read(work / TWEETS_FILE)
    # The weights are stored as float16: left to itself, the pipeline would compute in it.
    classify: Any = pipeline("text-classification", model=str(model), device="cpu", dtype=torch.float32)
    return Answers(
        single=lambda tweet: classify(tweets[tweet]),
        batch=lambda number: classify(_batch(tweets, number), batch_size=BATCH),
        label=lambda answers: answers[0]["label"],
    )


def load_onnxruntime(model: Path, work: Path) -> Answers:
    """The limit: the same graph, tokens, session options and threads, and nothing else to do."""
    import numpy as np

    from sentiment import manifest
    from sentiment.classifier import open_session

    tokens = _read(work / TOKENS_FILE)
    singles, batches = (
        [[{name: np.array(ids) for name, ids in feed.items()} for feed in feeds] for feeds in tokens[kind]]
        for kind in ("singles", "batches")
    )
    labels = _read(model / manifest.CONFIG)["id2label"]
    all_cores, one_core = open_session(model, threads=0), open_session(model)
    pool = ThreadPoolExecutor(os.cpu_count())

    def answer(feed: dict[str, Any]) -> Any:
        return one_core.run(["probabilities"], feed)[0]

    def run(feeds: list[dict[str, Any]]) -> list[Any]:
        if len(feeds) == 1:
            return [all_cores.run(["probabilities"], feeds[0])[0]]
        return list(pool.map(answer, feeds))

    return Answers(
        single=lambda tweet: run(singles[tweet]),
        batch=lambda number: run(batches[number]),
        label=lambda results: labels[str(results[0].argmax())],
    )


LOADERS: dict[str, Callable[[Path, Path], Answers]] = {
    OURS: load_classifier,
    LIMIT: load_onnxruntime,
    PIPELINE: load_pipeline,
}


def write_tokens(model: Path, work: Path) -> None:
    """Write TOKENS_FILE: the graph's inputs for each tweet and each batch, as our classifier makes them."""
    from sentiment.classifier import Classifier

    tweets = _read(work / TWEETS_FILE)
    classifier = Classifier.load(model)

    def feeds(texts: list[str]) -> list[dict[str, Any]]:
        return [{name: ids.tolist() for name, ids in feed.items()} for feed in classifier.feeds(texts)]

    tokens = {
        "singles": [feeds([tweet]) for tweet in tweets],
        "batches": [feeds(_batch(tweets, number)) for number in range(len(tweets) // BATCH)],
    }
    (work / TOKENS_FILE).write_text(json.dumps(tokens), encoding="utf-8")


def main(name: str, model: Path, work: Path) -> None:
    """Load the contender `name`, and answer until standard input ends."""
    # Libraries print where they like: what goes to the parent has a descriptor of its own.
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as parent:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

        def say(answer: Any) -> None:
            parent.write(json.dumps(answer) + "\n")
            parent.flush()

        if name == TOKENISE:
            write_tokens(model, work)
            say(None)
            return
        answers = LOADERS[name](model, work)
        say(answers.label(answers.single(0)))
        for line in sys.stdin:
            request = json.loads(line)
            if request["command"] == "singles":
                say(time_singles(answers, request["items"]))
            else:
                say(time_batches(answers, request["items"]))


def _read(path: Path) -> Any:
    return json.loads(path.read_bytes())


def _batch(tweets: list[str], number: int) -> list[str]:
    return tweets[number * BATCH : (number + 1) * BATCH]


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
