"""Files of corrections: what each row becomes, and which rows are refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sentiment.errors import DataError
from sentiment.feedback.files import read_corrections
from sentiment.feedback.messages import Pseudonyms
from sentiment.records import CorrectionMessage

PSEUDONYMS = Pseudonyms("a-key-for-pseudonyms")
NOW = datetime(2025, 6, 1, tzinfo=UTC)


def _read(path: Path, content: str, now: datetime = NOW) -> list[CorrectionMessage]:
    path.write_text(content, encoding="utf-8")
    return read_corrections(path, PSEUDONYMS, now)


def test_the_same_row_has_the_same_id_in_every_format_at_every_time(tmp_path: Path) -> None:
    """Rows that say the same are numbered, so that each is one correction."""
    row = ("so, @anna", "positive", "negative", "0.75", "Bob")
    names = ("text", "predicted", "corrected", "confidence", "user")
    csv = "".join(f'"{line[0]}",{",".join(line[1:])}\n' for line in (names, row, row))
    tsv = "".join("\t".join(line) + "\n" for line in (names, row, row))
    record = dict(zip(names, row, strict=True)) | {"confidence": 0.75}
    jsonl = "\n".join([json.dumps(record)] * 2)
    read = [
        _read(tmp_path / f"file{suffix}", content, NOW + timedelta(days=day))
        for day, (suffix, content) in enumerate(((".csv", csv), (".tsv", tsv), (".jsonl", jsonl)))
    ]
    first, second = read[0]
    assert first.id != second.id
    assert [[message.id for message in messages] for messages in read] == [[first.id, second.id]] * 3
    assert (first.text, first.confidence, first.user) == ("so, @user", 0.75, PSEUDONYMS.of("Bob"))
    assert (first.source, first.model_version, first.created_at) == ("file", "unknown", NOW)


def test_what_a_row_says_of_itself_is_kept(tmp_path: Path) -> None:
    """Its id and time above all; `label` will do for `corrected`."""
    content = "id,text,predicted,label,created_at\nmine,hi,neutral,positive,2024-01-01T00:00:00Z\n"
    (message,) = _read(tmp_path / "a.csv", content)
    assert (message.id, message.corrected, message.created_at.year) == ("mine", "positive", 2024)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", "", "unknown format"),
        ("a.csv", "text,corrected\n", "line 1: .*predicted is missing"),
        ("a.csv", "text,text,predicted,corrected\n", "line 1: .*twice"),
        ("a.csv", "text,predicted,corrected\n", "has no rows"),
        (
            "a.csv",
            'text,predicted,corrected\n"a\nb",positive,negative\nc,positive\n',
            "line 4: has 2 columns",
        ),
        ("a.csv", 'text,predicted,corrected\n"a,positive,negative\n', "not CSV"),
        ("a.tsv", "text\tpredicted\tcorrected\n\nfine\tpositive\tsad\n", "line 3: .*sad"),
        ("a.jsonl", '{"text": "a"}\n', "line 1: .*predicted"),
        ("a.jsonl", "[]\n", "line 1: is no JSON object"),
        ("a.csv", f"text,predicted,corrected\n{'x' * 5001},positive,negative\n", "line 2: .*5000"),
        (
            "a.csv",
            "text,predicted,corrected,confidence\na,positive,negative,high\n",
            "line 2: .*no probability",
        ),
        ("a.csv", "text,predicted,corrected,confidence\na,positive,negative,nan\n", "line 2"),
    ],
)
def test_a_faulty_row_is_named(tmp_path: Path, name: str, content: str, said: str) -> None:
    """By its line, and what is wrong with it."""
    with pytest.raises(DataError, match=said):
        _read(tmp_path / name, content)


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_corrections(tmp_path / "none.csv", PSEUDONYMS, NOW)
