"""What goes into a function and what comes out, converted by the Functions library itself.

The worker of the platform uses the same converters, so an annotation or a value
that they refuse there is refused here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, cast

import azure.functions as func
from azure.functions.http import HttpRequest
from azure.functions.meta import Datum
from azure.storage.queue import QueueMessage as StoredMessage

from localhost.functions import HTTP_OUTPUT, QUEUE_OUTPUT, QUEUE_TRIGGER, TIMER_TRIGGER


class Converter(Protocol):
    """The Functions library's converter for one type of binding."""

    def check_input_type_annotation(self, pytype: Any) -> bool:
        """Return whether a parameter may be annotated so."""

    def check_output_type_annotation(self, pytype: Any) -> bool:
        """Return whether an output may be annotated so."""

    def decode(self, data: Datum, *, trigger_metadata: Mapping[str, Datum]) -> Any:
        """Return what the function gets."""

    def encode(self, obj: Any, *, expected_type: Any) -> Datum:
        """Return what the host gets."""


class Answer(NamedTuple):
    """An HTTP answer, ready to be sent."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Output(func.Out[Any]):
    """What a function sets an output binding through; the last value counts."""

    def __init__(self) -> None:
        self._value: Any = None

    def set(self, val: Any) -> None:
        """Keep the value."""
        self._value = val

    def get(self) -> Any:
        """Return the value, None when none was set."""
        return self._value


def find_converter(binding_type: str) -> Converter | None:
    """Return the library's converter for `binding_type`, if it has one."""
    registry: Any = func.get_binding_registry  # not annotated in the library
    return cast("Converter | None", registry().get(binding_type))


def decode_http_request(
    method: str,
    url: str,
    headers: Mapping[str, str],
    params: Mapping[str, str],
    route_params: Mapping[str, str],
    body: bytes,
) -> func.HttpRequest:
    """Return the request as a function gets it; the body arrives as bytes, as from the platform."""
    return HttpRequest(
        method=method,
        url=url,
        headers=headers,
        params=params,
        route_params=route_params,
        body_type="bytes",
        body=body,
    )


def encode_http_response(value: Any) -> Answer:
    """Return what a function's result says to the caller.

    Raises:
        TypeError: it is neither `func.HttpResponse` nor `str`; the platform answers 500.
    """
    datum = _encode(HTTP_OUTPUT, value, None)
    if datum.type == "string":
        return Answer(200, [("content-type", "text/plain; charset=utf-8")], datum.value.encode())
    parts = datum.value
    headers = [(name, header.value) for name, header in parts["headers"].items()]
    for cookie in parts["cookies"] or ():
        headers += [("set-cookie", morsel.OutputString()) for morsel in cookie.values()]
    return Answer(int(parts["status_code"].value), headers, parts["body"].value)


def decode_queue_message(message: StoredMessage, body: str, annotation: Any, binary: bool) -> Any:
    """Return a message as a function gets it: its text, its bytes, or a `func.QueueMessage`."""
    content: str | bytes = body.encode() if binary else body
    if annotation in (str, bytes):
        return content
    metadata = {
        "Id": message.id,
        "DequeueCount": message.dequeue_count,
        "ExpirationTime": message.expires_on,
        "InsertionTime": message.inserted_on,
        "NextVisibleTime": message.next_visible_on,
        "PopReceipt": message.pop_receipt,
    }
    return _decode(QUEUE_TRIGGER, Datum(content, "bytes" if binary else "string"), metadata)


def encode_queue_messages(value: Any, annotation: Any) -> list[str | bytes]:
    """Return the messages that an output value puts on its queue.

    Text and bytes are one message; a list is one message for each item; what is
    annotated `func.Out[func.QueueMessage]` and is an object becomes its JSON.

    Raises:
        TypeError: it cannot be put on a queue.
    """
    datum = _generic(value) if annotation in (str, bytes) else _encode(QUEUE_OUTPUT, value, annotation)
    if datum.type in ("string", "bytes"):
        return [datum.value]
    items = json.loads(datum.value)
    return [
        item if isinstance(item, str) else json.dumps(item)
        for item in (items if isinstance(items, list) else [items])
    ]


def decode_timer(past_due: bool, status: Mapping[str, str] | None) -> func.TimerRequest:
    """Return a tick as a function gets it; `status` holds Last, Next and LastUpdated, if monitored."""
    payload = {"Schedule": {"AdjustForDST": True}, "ScheduleStatus": status, "IsPastDue": past_due}
    return cast(func.TimerRequest, _decode(TIMER_TRIGGER, Datum(json.dumps(payload), "json"), {}))


def _generic(value: Any) -> Datum:
    """Encode an output annotated `str` or `bytes`: those, or what JSON can say."""
    if isinstance(value, str):
        return Datum(value, "string")
    if isinstance(value, (bytes, bytearray)):
        return Datum(bytes(value), "bytes")
    return Datum(json.dumps(value), "json")


def _decode(binding_type: str, data: Datum, metadata: Mapping[str, Any]) -> Any:
    converter = find_converter(binding_type)
    assert converter is not None  # the checks let no other type through
    typed = {
        name: Datum(value, "int") if isinstance(value, int) else Datum(str(value).replace(" ", "T"), "string")
        for name, value in metadata.items()
        if value is not None
    }
    return converter.decode(data, trigger_metadata=typed)


def _encode(binding_type: str, value: Any, annotation: Any) -> Datum:
    converter = find_converter(binding_type)
    assert converter is not None  # the checks let no other type through
    try:
        return converter.encode(value, expected_type=annotation)
    except NotImplementedError as error:
        raise TypeError(
            f"a {type(value).__name__} cannot be put out through the binding type {binding_type!r}"
        ) from error
