"""`host.json`: how the platform is told to behave, read with its defaults and limits.

As on the platform, a setting `AzureFunctionsJobHost__extensions__queues__batchSize`
overrides `extensions.queues.batchSize`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from localhost.errors import AppRefused

_OVERRIDE = "AzureFunctionsJobHost__"
_DURATION = re.compile(r"(?:(\d+)\.)?(\d{1,2}):(\d{1,2}):(\d{1,2})(?:\.(\d{1,7}))?")


class HttpOptions(Struct, frozen=True, rename="camel"):
    """`extensions.http`."""

    route_prefix: str = "api"
    custom_headers: dict[str, str] = {}


class QueueOptions(Struct, frozen=True, rename="camel"):
    """`extensions.queues`, with the defaults and limits of the storage extension 5."""

    batch_size: Annotated[int, Meta(ge=1, le=32)] = 16
    max_dequeue_count: Annotated[int, Meta(ge=1)] = 5
    new_batch_threshold: Annotated[int, Meta(ge=0)] | None = None
    max_polling_interval: str = "00:01:00"
    visibility_timeout: str = "00:00:00"
    message_encoding: Literal["base64", "none"] = "base64"


class _Extensions(Struct, frozen=True):
    http: HttpOptions = HttpOptions()
    queues: QueueOptions = QueueOptions()


class _Bundle(Struct, frozen=True):
    id: str
    version: str


class HostOptions(Struct, frozen=True, rename="camel"):
    """The parts of `host.json` that this host respects."""

    version: Literal["2.0"]
    extensions: _Extensions = _Extensions()
    extension_bundle: _Bundle | None = None

    @property
    def route_prefix(self) -> str:
        """What every route starts with, without slashes; may be empty."""
        return self.extensions.http.route_prefix.strip("/")

    @property
    def custom_headers(self) -> dict[str, str]:
        """Headers that every answer carries."""
        return self.extensions.http.custom_headers

    @property
    def queues(self) -> QueueOptions:
        """How queues are polled."""
        return self.extensions.queues


def read_host_json(folder: Path, environ: Mapping[str, str]) -> HostOptions:
    """Return the options in `folder`'s `host.json`, overridden by `environ`.

    Raises:
        AppRefused: it is missing or invalid; the message names the place.
    """
    try:
        raw = msgspec.json.decode((folder / "host.json").read_bytes())
    except FileNotFoundError as error:
        raise AppRefused('host.json is missing: the least it may hold is {"version": "2.0"}') from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AppRefused(f"host.json is not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise AppRefused("host.json must hold an object")
    for key, value in environ.items():
        if key.startswith(_OVERRIDE):
            _override(raw, key.removeprefix(_OVERRIDE).split("__"), value)
    encoding = raw.get("extensions", {}).get("queues", {}) if isinstance(raw.get("extensions"), dict) else {}
    if isinstance(encoding, dict) and isinstance(encoding.get("messageEncoding"), str):
        encoding["messageEncoding"] = encoding["messageEncoding"].lower()
    try:
        options = msgspec.convert(raw, HostOptions, strict=False)
        longest_wait = duration(options.queues.max_polling_interval)
        duration(options.queues.visibility_timeout)
    except (msgspec.ValidationError, ValueError) as error:
        raise AppRefused(f"host.json: {error}") from error
    if longest_wait < timedelta(milliseconds=100):
        raise AppRefused("host.json: extensions.queues.maxPollingInterval must be at least 00:00:00.100")
    return options


def duration(text: str) -> timedelta:
    """Return a time span written as the platform writes it: `hh:mm:ss`, `d.hh:mm:ss`, `hh:mm:ss.fff`.

    Raises:
        ValueError: it is not one.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a time span: write hh:mm:ss")
    days, hours, minutes, seconds, fraction = match.groups(default="0")
    return timedelta(
        days=int(days), hours=int(hours), minutes=int(minutes), seconds=float(f"{int(seconds)}.{fraction}")
    )


def _override(raw: dict[str, Any], path: list[str], value: str) -> None:
    *parents, last = path
    for name in parents:
        child = raw.setdefault(name, {})
        if not isinstance(child, dict):
            return
        raw = child
    raw[last] = value
