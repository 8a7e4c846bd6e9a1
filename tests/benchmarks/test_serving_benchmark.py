"""The command chooses its tweets as it says, and fails with a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.answers import BATCH
from benchmarks.serving import main, read_texts


def test_tweets_are_spread_over_the_file(tmp_path: Path) -> None:
    """A sorted file is not measured on its beginning only; a short one is used whole."""
    path = tmp_path / "tweets.tsv"
    path.write_text("label\ttext\n" + "".join(f"neutral\tt{n}\n" for n in range(1_000)), encoding="utf-8")
    texts, named = read_texts(path, 100)
    assert texts == [f"t{n}" for n in range(0, 1_000, 10)]
    assert named == "100 tweets of tweets.tsv"
    assert len(read_texts(path, 5_000)[0]) == 1_000


def test_without_a_file_tweets_are_invented() -> None:
    """Nothing has to be at hand to measure."""
    texts, named = read_texts(None, 64)
    assert len(texts) == 64
    assert named == "64 invented tweets"


def test_less_than_a_batch_is_refused(tmp_path: Path) -> None:
    """There has to be one batch."""
    path = tmp_path / "few.tsv"
    path.write_text("label\ttext\nneutral\tone\n", encoding="utf-8")
    with pytest.raises(ValueError, match=f"at least {BATCH}"):
        read_texts(path, 100)


def test_mistakes_end_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No model folder, or data that cannot be read: exit code 1, one line, no traceback."""
    assert main(["--model", str(tmp_path)]) == 1
    assert "manifest.json: is missing" in capsys.readouterr().err
    assert main(["--data", str(tmp_path / "absent.tsv")]) == 1
    assert capsys.readouterr().err.startswith("error: ")
