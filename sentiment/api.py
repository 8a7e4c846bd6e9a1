"""What comes in over HTTP and what goes out: requests read, errors worded."""

from __future__ import annotations

import json
import re
from email.message import Message
from typing import Any, NoReturn, TypeVar

import msgspec

from sentiment.errors import (
    BodyTooLarge,
    CorrectionNotFound,
    InvalidInput,
    InvalidToken,
    MalformedJson,
    ModelError,
    SentimentError,
    StoreUnavailable,
    UnsupportedMediaType,
)
from sentiment.records import Document, DocumentFault, Fault, FeedbackRequest, Problem, TextRequest
from sentiment.text import check_text

T = TypeVar("T")

MAX_BODY_BYTES = 1024 * 1024
MAX_DOCUMENTS = 100

#: How long a caller should wait while there is no model to answer with.
RETRY_AFTER_SECONDS = 10

_PROBLEM_TYPE = "urn:sentiment:problem:"
_PATH_PART = re.compile(r"\.(\w+)|\[(\d+)\]")


class InvalidDocuments(InvalidInput):
    """A batch that cannot be answered: its faults, each with its place."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__(faults[0].code, faults[0].detail, faults[0].pointer)
        self.faults = faults


class Batch(msgspec.Struct, frozen=True):
    """A batch as read: the documents that can be classified, and why the others cannot."""

    documents: list[Document]
    faults: list[DocumentFault]


def read_predict_request(content_type: str | None, body: bytes) -> TextRequest | Batch:
    """Return what the body of ``POST predict`` asks.

    Raises:
        InvalidInput: nothing of it can be answered; a subclass says why in general.
    """
    request = read_json(content_type, body)
    if not isinstance(request, dict):
        raise InvalidInput(
            "wrong-type", f'The body must be an object like {{"text": "..."}}, got {_kind(request)}.'
        )
    if ("text" in request) == ("documents" in request):
        raise InvalidInput(
            "text-or-documents", "Send either 'text' (one tweet) or 'documents' (several), and not both."
        )
    if "documents" in request:
        return _read_batch(request)
    single = _convert(request, TextRequest, "")
    check_text(single.text, "/text")
    return single


def read_feedback_request(content_type: str | None, body: bytes) -> FeedbackRequest:
    """Return what the body of ``POST feedback`` says; its token is not verified yet.

    Raises:
        InvalidInput: nothing of it can be used; a subclass says why in general.
    """
    request = read_json(content_type, body)
    feedback = _convert(request, FeedbackRequest, "")
    check_text(feedback.text, "/text")
    for name in ("user", "comment"):
        if not _is_unicode(getattr(feedback, name) or ""):
            raise InvalidInput("text-not-unicode", "It has half of a surrogate pair.", f"/{name}")
    return feedback


def read_explain_request(content_type: str | None, body: bytes) -> TextRequest:
    """Return the one text that the body of ``POST explain`` asks about.

    Raises:
        InvalidInput: it cannot be explained; a subclass says why in general.
    """
    request = read_predict_request(content_type, body)
    if isinstance(request, Batch):
        raise InvalidInput("one-text", "Send 'text': one tweet is explained at a time.", "/documents")
    return request


def read_json(content_type: str | None, body: bytes) -> Any:
    """Return the JSON value in `body`, with lone surrogates left in for `check_text` to name.

    Raises:
        BodyTooLarge, UnsupportedMediaType, MalformedJson
        InvalidInput: the body is empty.
    """
    if len(body) > MAX_BODY_BYTES:
        raise BodyTooLarge(len(body), MAX_BODY_BYTES)
    _check_content_type(content_type or "")
    if not body.strip():
        raise InvalidInput("empty-body", 'The body is empty: send {"text": "..."} or {"documents": [...]}.')
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _read_leniently(body)


def problem(error: SentimentError) -> Problem:
    """Return `error` as RFC 9457 problem details.

    What only the people who run the service can mend is a 503 (a caller may try
    again) or, for settings, a 500.
    """
    if isinstance(error, InvalidInput):
        if isinstance(error, InvalidDocuments):
            faults = error.faults
        else:
            faults = [Fault(error.pointer, error.code, error.detail)]
        return Problem(
            type=_PROBLEM_TYPE + error.code,
            title=error.title,
            status=error.status,
            detail=error.detail,
            errors=faults,
            offset=error.offset if isinstance(error, MalformedJson) else msgspec.UNSET,
        )
    if isinstance(error, InvalidToken):
        pointer = "/text" if error.check == "text" else "/prediction"
        return Problem(
            type=f"{_PROBLEM_TYPE}prediction-{error.check}",
            title="The prediction cannot be corrected",
            status=400,
            detail=str(error),
            errors=[Fault(pointer, f"prediction-{error.check}", str(error))],
        )
    if isinstance(error, CorrectionNotFound):
        return Problem(
            type=_PROBLEM_TYPE + "no-correction", title="No such correction", status=404, detail=str(error)
        )
    if isinstance(error, StoreUnavailable):
        return Problem(
            type=_PROBLEM_TYPE + "storage-unavailable",
            title="Storage does not answer",
            status=503,
            detail=str(error),
        )
    if isinstance(error, ModelError):
        return Problem(
            type=_PROBLEM_TYPE + "no-model", title="No model to answer with", status=503, detail=str(error)
        )
    return Problem(
        type=_PROBLEM_TYPE + "misconfigured",
        title="The service is misconfigured",
        status=500,
        detail=str(error),
    )


def unexpected_problem() -> Problem:
    """Return the problem for a defect of ours: nothing of it is told, all of it is in the log."""
    return Problem(
        type=_PROBLEM_TYPE + "unexpected",
        title="Internal error",
        status=500,
        detail="The request could not be answered because of a defect; it was logged.",
    )


def _read_batch(request: dict[str, Any]) -> Batch:
    if unknown := sorted(request.keys() - {"documents"}):
        raise InvalidInput("invalid", f"Object contains unknown field `{unknown[0]}`.")
    raw = request["documents"]
    if not isinstance(raw, list):
        raise InvalidInput("wrong-type", f"Expected an array, got {_kind(raw)}.", "/documents")
    if not raw:
        raise InvalidInput("no-documents", "There are no documents: send at least one.", "/documents")
    if len(raw) > MAX_DOCUMENTS:
        raise InvalidInput(
            "too-many-documents",
            f"There are {len(raw):,} documents, at most {MAX_DOCUMENTS} are accepted: send several requests.",
            "/documents",
        )
    _check_ids(raw)
    documents, faults = [], []
    for position, value in enumerate(raw):
        pointer = f"/documents/{position}"
        try:
            document = _convert(value, Document, pointer)
            check_text(document.text, f"{pointer}/text")
        except InvalidInput as error:
            faults.append(DocumentFault(value["id"], Fault(error.pointer, error.code, error.detail)))
        else:
            documents.append(document)
    return Batch(documents, faults)


def _check_ids(raw: list[Any]) -> None:
    """Refuse a batch in which an answer could not be matched to its document."""
    faults: list[Fault] = []
    seen: dict[str, int] = {}
    for position, value in enumerate(raw):
        pointer = f"/documents/{position}"
        if not isinstance(value, dict):
            faults.append(Fault(pointer, "wrong-type", f"Expected an object, got {_kind(value)}."))
        elif "id" not in value:
            faults.append(Fault(pointer, "missing-id", "The document has no 'id'."))
        elif (
            not isinstance(value["id"], str)
            or not 1 <= len(value["id"]) <= 100
            or not _is_unicode(value["id"])
        ):
            faults.append(
                Fault(f"{pointer}/id", "invalid-id", "An id must be a string of 1 to 100 characters.")
            )
        elif (first := seen.setdefault(value["id"], position)) != position:
            faults.append(
                Fault(
                    f"{pointer}/id",
                    "duplicate-id",
                    f"The id {value['id']!r} is that of /documents/{first} too.",
                )
            )
    if faults:
        raise InvalidDocuments(faults)


def _convert(value: Any, type_: type[T], pointer: str) -> T:
    try:
        return msgspec.convert(value, type_)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        place = "".join(f"/{name or number}" for name, number in _PATH_PART.findall(path))
        raise InvalidInput("invalid", f"{message}.", pointer + place) from error


def _check_content_type(content_type: str) -> None:
    header = Message()
    header["Content-Type"] = content_type
    kind, charset = header.get_content_type(), header.get_content_charset("utf-8")
    is_json = kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))
    if not content_type or not is_json or charset not in ("utf-8", "utf8", "us-ascii"):
        raise UnsupportedMediaType(content_type)


def _read_leniently(body: bytes) -> Any:
    """Read what the fast reader refused: to accept lone surrogates, and to say exactly what is wrong.

    The standard library's reader knows the position of every fault.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise MalformedJson(
            f"The body is not UTF-8: byte {error.start} is {body[error.start]:#04x}.", error.start
        ) from error
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        offset = len(text[: error.pos].encode())
        raise MalformedJson(f"The body is not JSON: {error.msg} at byte {offset}.", offset) from error
    except (RecursionError, ValueError) as error:
        raise MalformedJson(f"The body is not JSON that can be read: {error}.", 0) from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


def _is_unicode(text: str) -> bool:
    return all(not 0xD800 <= ord(character) <= 0xDFFF for character in text)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "an array"}
    return names.get(type(value), "an object")
