"""Labelled tweets from files: what is trained on and what is evaluated on.

One reader for training and evaluation, so that both mean the same rows. It
refuses rather than repairs: a row that is silently skipped or relabelled is a
metric that is silently wrong.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sentiment.errors import DataError
from sentiment.records import LABELS, DataFingerprint
from sentiment.text import normalise

_LABEL_INDEX: dict[str, int] = {label: index for index, label in enumerate(LABELS)}
_COLUMNS = ("label", "text")
# A label that is quoted in a message may be a whole tweet in the wrong column.
_LONGEST_QUOTE = 40


class LabelledTweets(Struct, frozen=True, eq=False):
    """The rows of one file, in the file's order.

    `texts` are as the file has them, not normalised. `labels` has shape (n,),
    int64: positions in `sentiment.records.LABELS`.
    """

    texts: tuple[str, ...]
    labels: NDArray[np.int64]
    fingerprint: DataFingerprint

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.texts)


def read_tweets(path: Path) -> LabelledTweets:
    """Read labelled tweets from a `.tsv`, `.csv` or `.jsonl` file in UTF-8, with or without BOM.

    TSV and CSV start with a header that names the columns `label` and `text`;
    further columns are ignored. TSV has no quoting: a line is split at tabs and
    nowhere else, so a tweet may start with a quotation mark. CSV is quoted as in
    RFC 4180. JSONL has one object with `label` and `text` a line. Blank lines are
    skipped.

    Raises:
        DataError: the file cannot be read, is not UTF-8, has no header or no rows,
            or a row has an unknown label, an empty text (also one of which
            `sentiment.text.normalise` leaves nothing) or too many or few columns;
            with the line where it starts.
    """
    read_rows = _READERS.get(path.suffix.lower())
    if read_rows is None:
        raise DataError(
            path, 0, f"has an unknown format: the name must end in one of {', '.join(sorted(_READERS))}"
        )
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(path, 0, f"cannot be read: {error.strerror or error}") from error
    texts: list[str] = []
    labels: list[int] = []
    for line, label, text in read_rows(path, _decode(path, raw)):
        if label not in _LABEL_INDEX:
            raise DataError(
                path,
                line,
                f"the label is {_quote(label)}: it must be one of {', '.join(LABELS)} (in lower case)",
            )
        if not normalise(text):
            raise DataError(
                path,
                line,
                "the text is empty (or has only invisible characters): give it a text or remove the row",
            )
        labels.append(_LABEL_INDEX[label])
        texts.append(text)
    if not texts:
        raise DataError(path, 0, "has no rows: give it at least one labelled tweet")
    return LabelledTweets(
        texts=tuple(texts),
        labels=np.array(labels, dtype=np.int64),
        fingerprint=DataFingerprint(
            name=path.name,
            sha256=hashlib.sha256(raw).hexdigest(),
            rows={label: labels.count(index) for index, label in enumerate(LABELS)},
        ),
    )


def _decode(path: Path, raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(
            path, line, f"byte {raw[error.start]:#04x} is not UTF-8: save the file with the encoding UTF-8"
        ) from error


def _read_tsv(path: Path, content: str) -> Iterator[tuple[int, str, str]]:
    # Not `str.splitlines`: it also breaks at U+2028, U+0085 and others, which tweets contain.
    lines = (line.removesuffix("\r") for line in content.split("\n"))
    rows = ((number, line.split("\t")) for number, line in enumerate(lines, start=1) if line.strip())
    return _read_table(path, rows, separator="\t")


def _read_csv(path: Path, content: str) -> Iterator[tuple[int, str, str]]:
    return _read_table(path, _csv_rows(path, content), separator=",")


def _csv_rows(path: Path, content: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    while True:
        # A quoted text may span lines: the row is known by the first of them.
        first_line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(path, first_line, f"is not CSV: {error}; check the quotation marks") from error
        if row:
            yield first_line, row


def _read_table(
    path: Path, rows: Iterable[tuple[int, Sequence[str]]], separator: str
) -> Iterator[tuple[int, str, str]]:
    """Yield line, label and text of each row under the header that `rows` starts with."""
    rows = iter(rows)
    _, header = next(rows, (0, ()))
    for column in _COLUMNS:
        if header.count(column) != 1:
            expected = separator.join(_COLUMNS).replace("\t", "<TAB>")
            raise DataError(
                path, 1, f"the header must name the columns label and text: start with '{expected}'"
            )
    label_at, text_at = (header.index(column) for column in _COLUMNS)
    for line, row in rows:
        if len(row) != len(header):
            separators = {"\t": "tabs", ",": "commas outside quotation marks"}[separator]
            raise DataError(
                path,
                line,
                f"has {len(row)} columns, the header has {len(header)}: check for {separators} in the text",
            )
        yield line, row[label_at], row[text_at]


class _Row(Struct, frozen=True):
    label: str
    text: str


def _read_jsonl(path: Path, content: str) -> Iterator[tuple[int, str, str]]:
    decoder = msgspec.json.Decoder(_Row)
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = decoder.decode(line)
        except msgspec.DecodeError as error:
            raise DataError(path, number, f'is not {{"label": "...", "text": "..."}}: {error}') from error
        yield number, row.label, row.text


_READERS: dict[str, Callable[[Path, str], Iterator[tuple[int, str, str]]]] = {
    ".tsv": _read_tsv,
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
}


def _quote(label: str) -> str:
    return repr(label if len(label) <= _LONGEST_QUOTE else label[:_LONGEST_QUOTE] + "...")
