"""Data for a machine that has none: the 4,200 tweets that vaderSentiment's source distribution carries.

Hutto and Gilbert had each tweet rated by ten people from -4 (extremely negative) to 4
(extremely positive), 0 being neutral and 1 slightly positive (VADER, ICWSM 2014); the
file holds the means. Here |mean| < 1 is neutral: on average, the raters did not go as far
as "slightly". That gives 837 negative, 1,533 neutral and 1,830 positive tweets, about the
balance of the SemEval tweets that the seed model was trained on (16, 45 and 40 %); with
0.5, where a mean rounds to 1, only 18 % would be neutral. The seed model, which has never
seen them, is right about 76 % of them, and of the neutral ones about 44 %: where the raters
draw that line is what there is to learn.

The tweets are no part of this repository (MIT licence, but real people's words); they are
fetched from the configured package index once, checked against a digest, and kept in the
state folder.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path

from localhost.errors import LocalhostError
from sentiment.feedback.messages import text_key

PACKAGE = "vaderSentiment==3.3.2"
SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
#: |mean rating| below this is neutral.
NEUTRAL_BELOW = 1.0
#: The files, and of a hundred tweets how many go into each.
#: `stream` is what users of a demonstration tweet and correct, `heldout` what measures
#: what came of it; the pipeline never reads either.
FILES = {"base": 30, "validation": 10, "golden": 15, "stream": 33, "heldout": 12}

_ARCHIVE = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
_RATINGS = "hutto_ICWSM_2014/tweets_GroundTruth.txt"
_INSTALL_SECONDS = 300


def data_file(folder: Path, name: str) -> Path:
    """Return where one of `FILES` is kept, there or not."""
    return folder / f"{name}.tsv"


def fetch_tweets(folder: Path, tell: Callable[[str], None] = lambda text: None) -> None:
    """Write all of `FILES` to `folder`, unless they are there.

    Raises:
        LocalhostError: the package index does not give the tweets.
    """
    if all(data_file(folder, name).exists() for name in FILES):
        return
    tell(f"fetching tweets to learn from ({PACKAGE}, 2.5 MB, once)")
    write_files(folder, read_ratings(_download()))


def read_ratings(archive: bytes) -> list[tuple[float, str]]:
    """Return mean rating and text of each tweet in the source distribution.

    Raises:
        LocalhostError: it is not the one that is known.
    """
    digest = hashlib.sha256(archive).hexdigest()
    if digest != SHA256:
        raise LocalhostError(f"the source distribution of {PACKAGE} has changed: its SHA-256 is {digest}")
    text = _member(_member(archive, _ARCHIVE), _RATINGS).decode("utf-8")
    rows = (line.split("\t") for line in text.splitlines())
    return [(float(rating), tweet.strip()) for _, rating, tweet in rows]


def label(rating: float) -> str:
    """Return the label of a mean rating."""
    if abs(rating) < NEUTRAL_BELOW:
        return "neutral"
    return "positive" if rating > 0 else "negative"


def write_files(folder: Path, ratings: Iterable[tuple[float, str]]) -> None:
    """Write each tweet to one of `FILES`; equal texts, once normalised, only ever to the same one."""
    rows: dict[str, list[str]] = {name: ["label\ttext"] for name in FILES}
    seen = set()
    for rating, tweet in ratings:
        key = text_key(tweet)
        if key not in seen:
            seen.add(key)
            rows[_file_of(key)].append(f"{label(rating)}\t{tweet}")
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in rows.items():
        unfinished = folder / f"{name}.tsv.unfinished"
        unfinished.write_text("\n".join(lines) + "\n", encoding="utf-8")
        os.replace(unfinished, data_file(folder, name))


def _file_of(key: str) -> str:
    place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % 100
    for name, share in FILES.items():
        if place < share:
            return name
        place -= share
    raise AssertionError("the shares make a hundred")


def _download() -> bytes:
    """Have pip fetch the source distribution, from wherever it is set up to fetch from.

    With a hash, pip checks the file before it looks into it: preparing the package's
    metadata, which `pip download` does, runs its setup.py.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        wanted = folder / "wanted.txt"
        wanted.write_text(f"{PACKAGE} --hash=sha256:{SHA256}\n")
        command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--quiet"]
        command += ["--no-deps", "--no-binary", "vaderSentiment", "--dest", temporary]
        try:
            done = subprocess.run(
                [*command, "--requirement", str(wanted)],
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
                timeout=_INSTALL_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise LocalhostError(f"the package index does not answer: {PACKAGE} cannot be fetched") from error
        found = next(folder.glob("*.tar.gz"), None)
        if done.returncode != 0 or found is None:
            said = [line for line in done.stderr.splitlines() if "error" in line.lower()]
            raise LocalhostError(
                f"the tweets of {PACKAGE} cannot be fetched: {said[-1] if said else 'pip gave no reason'} "
                "(or set RETRAIN_BASE_DATA, RETRAIN_VALIDATION_DATA and RETRAIN_GOLDEN_DATA to files)"
            )
        return found.read_bytes()


def _member(archive: bytes, name: str) -> bytes:
    """Return one file of a tar archive; nothing is unpacked."""
    with tarfile.open(fileobj=BytesIO(archive)) as tar:
        file = tar.extractfile(name)
        assert file is not None
        return file.read()
