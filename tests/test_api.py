"""Reading requests: every fault is named with its place, and none of them is a crash."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment import api
from sentiment.errors import InvalidInput, MalformedJson, SettingsError, StoreUnavailable
from sentiment.records import TextRequest

JSON = "application/json"


def _body(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _refusal(body: bytes, content_type: str | None = JSON) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        api.read_predict_request(content_type, body)
    return caught.value


def test_one_text_is_read() -> None:
    """Any JSON media type in UTF-8 will do."""
    for content_type in (
        JSON,
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/vnd.x+json",
    ):
        assert api.read_predict_request(content_type, _body({"text": "hi"})) == TextRequest("hi")


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        (b"", "empty-body", ""),
        (b" \n ", "empty-body", ""),
        (b"[]", "wrong-type", ""),
        (b"null", "wrong-type", ""),
        (b'"text"', "wrong-type", ""),
        (b"{}", "text-or-documents", ""),
        (b'{"text": "a", "documents": []}', "text-or-documents", ""),
        (b'{"text": 5}', "invalid", "/text"),
        (b'{"text": null}', "invalid", "/text"),
        (b'{"text": "a", "txet": "b"}', "invalid", ""),
        (b'{"text": ""}', "text-blank", "/text"),
        (b'{"text": "\\u0000"}', "text-blank", "/text"),
        (b'{"text": "\\u200f \\u200e"}', "text-blank", "/text"),
        (b'{"text": "a\\ud800"}', "text-not-unicode", "/text"),
        (_body({"text": "😂" * 100_000}), "text-too-long", "/text"),
        (b'{"documents": {}}', "wrong-type", "/documents"),
        (b'{"documents": []}', "no-documents", "/documents"),
        (b'{"documents": [1]}', "wrong-type", "/documents/0"),
        (b'{"documents": [{"text": "a"}]}', "missing-id", "/documents/0"),
        (b'{"documents": [{"id": 7, "text": "a"}]}', "invalid-id", "/documents/0/id"),
        (b'{"documents": [{"id": "", "text": "a"}]}', "invalid-id", "/documents/0/id"),
        (b'{"documents": [{"id": "\\udc00", "text": "a"}]}', "invalid-id", "/documents/0/id"),
        (_body({"documents": [{"id": "a", "text": "x"}] * 2}), "duplicate-id", "/documents/1/id"),
        (
            _body({"documents": [{"id": str(i), "text": "x"} for i in range(101)]}),
            "too-many-documents",
            "/documents",
        ),
        (b'{"documents": [], "model": 1}', "invalid", ""),
    ],
)
def test_a_bad_request_is_refused_with_its_place(body: bytes, code: str, pointer: str) -> None:
    """`code` is for programs, `pointer` says where."""
    refusal = _refusal(body)
    assert (refusal.code, refusal.pointer, refusal.status) == (code, pointer, 400)


@pytest.mark.parametrize(
    ("body", "offset"),
    [
        (b'{"text": "a"', 12),
        (b'{"text": tru}', 9),
        (b'{"text": "\xff"}', 10),
        ('{"é": "é", }'.encode(), 13),
        (b'{"text": "a"} x', 14),
        (b'{"text": NaN}', 0),
        (b"[" * 100_000, 0),
        (b"\x00\x01", 0),
    ],
)
def test_broken_json_is_placed_by_byte(body: bytes, offset: int) -> None:
    """The offset counts bytes of the body, whatever characters they make."""
    refusal = _refusal(body)
    assert isinstance(refusal, MalformedJson)
    assert refusal.offset == offset


@pytest.mark.parametrize(
    "content_type", [None, "", "text/plain", "application/xml", "application/json; charset=latin-1"]
)
def test_another_media_type_is_415(content_type: str | None) -> None:
    """What the body is must be said, not guessed."""
    assert _refusal(b'{"text": "a"}', content_type).status == 415


def test_a_large_body_is_413_and_not_even_read() -> None:
    """The limit is 1 MiB."""
    assert _refusal(b"x" * (api.MAX_BODY_BYTES + 1)).status == 413


def test_all_faulty_ids_are_named_at_once() -> None:
    """A caller mends a batch in one go."""
    refusal = _refusal(
        _body({"documents": [{"text": "a"}, {"id": "1", "text": "b"}, {"id": "1", "text": "c"}]})
    )
    problem = api.problem(refusal)
    assert problem.errors
    assert [fault.code for fault in problem.errors] == ["missing-id", "duplicate-id"]


def test_documents_fail_one_by_one() -> None:
    """A bad text costs its own document and no other."""
    documents = [
        {"id": "good", "text": "fine"},
        {"id": "blank", "text": " "},
        {"id": "number", "text": 5},
        {"id": "none"},
        {"id": "long", "text": "x" * 6000},
        {"id": "extra", "text": "a", "language": "en"},
        {"id": "half", "text": "\ud83d"},
    ]
    batch = api.read_predict_request(JSON, json.dumps({"documents": documents}).encode())
    assert isinstance(batch, api.Batch)
    assert [document.id for document in batch.documents] == ["good"]
    assert [(fault.id, fault.error.code, fault.error.pointer) for fault in batch.faults] == [
        ("blank", "text-blank", "/documents/1/text"),
        ("number", "invalid", "/documents/2/text"),
        ("none", "invalid", "/documents/3"),
        ("long", "text-too-long", "/documents/4/text"),
        ("extra", "invalid", "/documents/5"),
        ("half", "text-not-unicode", "/documents/6/text"),
    ]


@given(st.binary())
def test_no_body_crashes_the_reader(body: bytes) -> None:
    """Bytes are a request or are refused."""
    try:
        api.read_predict_request(JSON, body)
    except InvalidInput as error:
        assert api.problem(error).status in (400, 413)


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["id", "text", "x"]), inner),
    max_leaves=12,
)


@given(st.one_of(_values, st.fixed_dictionaries({"documents": st.lists(_values, max_size=4)})))
def test_no_json_crashes_the_reader(value: Any) -> None:
    """Any JSON value is a request or is refused, and every refusal says something."""
    try:
        api.read_predict_request(JSON, json.dumps(value).encode())
    except InvalidInput as error:
        assert error.code
        assert error.detail


def test_faults_of_the_service_are_not_the_callers() -> None:
    """Storage out of reach may pass: 503. A wrong setting does not: 500."""
    assert api.problem(StoreUnavailable("read the champion", "connection refused")).status == 503
    assert api.problem(SettingsError("FEEDBACK_SIGNING_KEYS", "is not set")).status == 500
