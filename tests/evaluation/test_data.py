"""Labelled tweets are read as they are written, or refused with the place and the remedy."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentiment.errors import DataError
from sentiment.evaluation.data import read_tweets
from sentiment.records import LABELS
from sentiment.text import normalise

ROWS = [("positive", "What a day!"), ("neutral", 'He said "hi", then left'), ("negative", "ça m'énerve 😠")]


def _write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def _as_tsv(rows: Sequence[tuple[str, str]]) -> str:
    return "label\ttext\n" + "".join(f"{label}\t{text}\n" for label, text in rows)


def _as_csv(rows: Sequence[tuple[str, str]]) -> str:
    out = io.StringIO(newline="")
    csv.writer(out).writerows([("label", "text"), *rows])
    return out.getvalue()


def _as_jsonl(rows: Sequence[tuple[str, str]]) -> str:
    return "".join(json.dumps({"label": label, "text": text}) + "\n" for label, text in rows)


FORMATS = {".tsv": _as_tsv, ".csv": _as_csv, ".jsonl": _as_jsonl}


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"], ids=["plain", "bom"])
@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_gives_the_same_rows(tmp_path: Path, suffix: str, bom: bytes) -> None:
    """Texts, labels and rows per class are those of the file; the fingerprint is of its bytes."""
    path = _write(tmp_path / f"tweets{suffix}", bom + FORMATS[suffix](ROWS).encode())
    tweets = read_tweets(path)
    assert tweets.texts == tuple(text for _, text in ROWS)
    assert tweets.labels.tolist() == [2, 1, 0]
    assert tweets.labels.dtype == np.int64
    assert len(tweets) == 3
    assert tweets.fingerprint.name == f"tweets{suffix}"
    assert tweets.fingerprint.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert tweets.fingerprint.rows == {"negative": 1, "neutral": 1, "positive": 1}


# What each format can carry: TSV neither tabs nor line breaks, and Windows' line end
# cannot be told from a text that ends in a carriage return.
_text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(normalise)
_tsv_text = _text.filter(lambda text: not set(text) & set("\t\n") and not text.endswith("\r"))
_rows = st.lists(st.tuples(st.sampled_from(LABELS), _text), min_size=1, max_size=5)
_tsv_rows = st.lists(st.tuples(st.sampled_from(LABELS), _tsv_text), min_size=1, max_size=5)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data(), suffix=st.sampled_from(sorted(FORMATS)))
def test_any_text_survives(tmp_path: Path, data: st.DataObject, suffix: str) -> None:
    """Quotes, commas, U+2028, control characters: what is written is read, to the letter."""
    rows = data.draw(_tsv_rows if suffix == ".tsv" else _rows)
    tweets = read_tweets(_write(tmp_path / f"tweets{suffix}", FORMATS[suffix](rows)))
    assert [(LABELS[label], text) for label, text in zip(tweets.labels, tweets.texts, strict=True)] == rows


def test_tsv_knows_no_quotation(tmp_path: Path) -> None:
    """A tweet that opens a quotation and never closes it does not swallow the next row."""
    path = _write(
        tmp_path / "t.tsv", 'label\ttext\r\nneutral\t"Dark Souls\r\n\r\npositive\t"yes" he said\r\n'
    )
    assert read_tweets(path).texts == ('"Dark Souls', '"yes" he said')


def test_further_columns_and_any_order(tmp_path: Path) -> None:
    """Only the columns label and text are read, wherever they stand."""
    path = _write(tmp_path / "t.csv", "id,text,label\n1,fine,positive\n")
    tweets = read_tweets(path)
    assert (tweets.texts, tweets.labels.tolist()) == (("fine",), [2])


@pytest.mark.parametrize(
    ("name", "content", "line", "said"),
    [
        ("t.tsv", b"label\ttext\npositive\tfine\nneutral\tcaf\xe9\n", 3, "byte 0xe9 is not UTF-8"),
        ("t.tsv", "label\ttext\npositive\tok\n".encode("utf-16"), 1, "is not UTF-8"),
        ("t.tsv", "positive\tfine\n", 1, "start with 'label<TAB>text'"),
        ("t.csv", "label\ttext\npositive\tfine\n", 1, "start with 'label,text'"),
        ("t.csv", "label,text,text\npositive,fine,good\n", 1, "start with 'label,text'"),
        ("t.tsv", "", 1, "the header must name"),
        ("t.tsv", "label\ttext\n", 0, "has no rows"),
        ("t.jsonl", "\n", 0, "has no rows"),
        (
            "t.tsv",
            "label\ttext\nirony\tsure\n",
            2,
            "the label is 'irony': it must be one of negative, neutral, positive",
        ),
        ("t.tsv", "label\ttext\nPositive\tsure\n", 2, "(in lower case)"),
        ("t.tsv", f"label\ttext\n{'long ' * 99}\tsure\n", 2, "...'"),
        ("t.tsv", "label\ttext\npositive\tfine\nneutral\t \n", 3, "the text is empty"),
        ("t.jsonl", '{"label": "neutral", "text": "\\u200b"}\n', 1, "the text is empty"),
        ("t.tsv", "label\ttext\n\npositive\ta\tb\n", 3, "has 3 columns, the header has 2: check for tabs"),
        ("t.tsv", "label\ttext\npositive\n", 2, "has 1 columns"),
        ("t.csv", 'label,text\npositive,"two\nlines"\nneutral,a,b\n', 4, "commas outside quotation marks"),
        ("t.csv", 'label,text\npositive,fine\nneutral,"two\nlines" and\n', 3, "is not CSV"),
        ("t.csv", 'label,text\nneutral,"never closed\n', 2, "is not CSV"),
        (
            "t.jsonl",
            '{"label": "neutral", "text": "a"}\n{"label": "neutral"}\n',
            2,
            "missing required field `text`",
        ),
        ("t.jsonl", '["neutral", "a"]\n', 1, 'is not {"label": "...", "text": "..."}'),
        ("t.jsonl", '{"label": "neutral", "text": "\\ud800"}\n', 1, 'is not {"label"'),
        ("t.jsonl", "{", 1, "truncated"),
        ("t.txt", "positive fine", 0, "must end in one of .csv, .jsonl, .tsv"),
    ],
)
def test_what_is_wrong_is_refused(
    tmp_path: Path, name: str, content: str | bytes, line: int, said: str
) -> None:
    """The error names the file, the line where the row starts, and what to do."""
    path = _write(tmp_path / name, content)
    with pytest.raises(DataError) as caught:
        read_tweets(path)
    assert caught.value.path == path
    assert caught.value.line == line
    assert said in str(caught.value)
    assert len(str(caught.value)) < 400, "a message is not the place for a whole tweet"


def test_no_such_file(tmp_path: Path) -> None:
    """A missing file, or a folder, is a DataError too."""
    with pytest.raises(DataError, match="No such file"):
        read_tweets(tmp_path / "absent.tsv")
    (tmp_path / "folder.tsv").mkdir()
    with pytest.raises(DataError, match="Is a directory"):
        read_tweets(tmp_path / "folder.tsv")
