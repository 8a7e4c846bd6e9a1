"""Files of corrections: each row a message, with the same id whenever it is sent."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from sentiment.errors import DataError, InvalidMessage
from sentiment.feedback.messages import Pseudonyms, masked_comment, masked_text, read_message
from sentiment.records import CorrectionMessage

_NEEDED = ("text", "predicted", "corrected")
_OPTIONAL = ("id", "model_version", "source", "user", "created_at", "confidence", "comment")
_DEFAULTS = {"model_version": "unknown", "source": "file"}


def read_corrections(path: Path, pseudonyms: Pseudonyms, now: datetime) -> list[CorrectionMessage]:
    """Return the messages in a `.csv`, `.tsv` or `.jsonl` file in UTF-8, names and links masked.

    Needed are `text`, `predicted` and `corrected` (`label` will do for the last). A
    row without an `id` gets one from what it says and how many rows before it say
    the same; `created_at` is `now` where a row has none. TSV has no quoting.

    Raises:
        DataError: a row cannot be sent; the message says which and why.
    """
    read = {".csv": _read_csv, ".tsv": _read_tsv, ".jsonl": _read_jsonl}.get(path.suffix.lower())
    if read is None:
        raise DataError(path, 0, "has an unknown format: the name must end in .csv, .jsonl or .tsv")
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(path, 0, f"cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(path, 0, f"is not UTF-8: {error.reason}") from error
    seen: Counter[str] = Counter()
    messages = [_message(path, line, row, seen, pseudonyms, now) for line, row in read(path, content)]
    if not messages:
        raise DataError(path, 0, "has no rows")
    return messages


def _message(
    path: Path,
    line: int,
    row: dict[str, Any],
    seen: Counter[str],
    pseudonyms: Pseudonyms,
    now: datetime,
) -> CorrectionMessage:
    if "label" in row and "corrected" not in row:
        row["corrected"] = row.pop("label")
    given = {key: row[key] for key in (*_NEEDED, *_OPTIONAL) if row.get(key) not in (None, "")}
    if isinstance(given.get("confidence"), str):
        try:
            given["confidence"] = _probability(given["confidence"])
        except ValueError as error:
            raise DataError(
                path, line, f"the confidence is no probability: {given['confidence']!r:.40}"
            ) from error
    try:
        message = read_message(
            msgspec.json.encode(
                _DEFAULTS | {"id": "row", "created_at": now.isoformat()} | given | {"schema": 1}
            )
        )
    except (InvalidMessage, UnicodeEncodeError) as error:
        raise DataError(path, line, str(error)) from error
    message = replace(
        message,
        text=masked_text(message.text),
        comment=masked_comment(message.comment),
        user=pseudonyms.known_as(message.user) if message.user else None,
    )
    if "id" in given:
        return message
    said = msgspec.json.encode({name: getattr(message, name) for name in sorted(given)}).decode()
    seen[said] += 1
    return replace(message, id="file-" + hashlib.sha256(f"{seen[said]} {said}".encode()).hexdigest()[:40])


def _probability(value: str) -> float:
    number = float(value)
    if not 0 <= number <= 1:
        raise ValueError(value)
    return number


def _read_csv(path: Path, content: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    try:
        header = next(reader, [])
        _check_header(path, header)
        line = reader.line_num + 1
        for row in reader:
            if row:
                yield line, _fields(path, line, header, row)
            # A quoted text may span lines: a row is known by the first of them.
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(path, reader.line_num, f"is not CSV: {error}; check the quotation marks") from error


def _read_tsv(path: Path, content: str) -> Iterator[tuple[int, dict[str, Any]]]:
    lines = [line.removesuffix("\r") for line in content.split("\n")]
    header = lines[0].split("\t")
    _check_header(path, header)
    for number, line in enumerate(lines[1:], start=2):
        if line.strip():
            yield number, _fields(path, number, header, line.split("\t"))


def _read_jsonl(path: Path, content: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield number, msgspec.json.decode(line, type=dict[str, Any])
        except (msgspec.MsgspecError, RecursionError) as error:
            raise DataError(path, number, f"is no JSON object: {error}") from error


def _check_header(path: Path, header: list[str]) -> None:
    for column in _NEEDED:
        if column not in header and not (column == "corrected" and "label" in header):
            raise DataError(
                path, 1, f"the header must name the columns {', '.join(_NEEDED)}: {column} is missing"
            )
    if len(set(header)) != len(header):
        raise DataError(path, 1, "the header names a column twice")


def _fields(path: Path, line: int, header: list[str], row: list[str]) -> dict[str, Any]:
    if len(row) != len(header):
        raise DataError(path, line, f"has {len(row)} columns, the header has {len(header)}")
    return dict(zip(header, row, strict=True))
