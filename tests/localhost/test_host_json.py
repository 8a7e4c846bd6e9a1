"""Reading `host.json`."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest

from localhost.errors import AppRefused
from localhost.host_json import duration, read_host_json


def _write(folder: Path, text: str) -> Path:
    (folder / "host.json").write_text(text)
    return folder


def test_the_platforms_defaults(tmp_path: Path) -> None:
    """What is left out is as documented for the storage extension 5."""
    options = read_host_json(_write(tmp_path, '{"version": "2.0"}'), {})
    assert options.route_prefix == "api"
    assert options.queues.batch_size == 16
    assert options.queues.max_dequeue_count == 5
    assert options.queues.message_encoding == "base64"
    assert options.extension_bundle is None


def test_settings_override_the_file(tmp_path: Path) -> None:
    """As on the platform, and text is read as the number it stands for."""
    _write(
        tmp_path, '{"version": "2.0", "extensions": {"queues": {"batchSize": 4, "messageEncoding": "None"}}}'
    )
    environ = {
        "AzureFunctionsJobHost__extensions__queues__batchSize": "8",
        "AzureFunctionsJobHost__extensions__http__routePrefix": "",
    }
    options = read_host_json(tmp_path, environ)
    assert options.queues.batch_size == 8
    assert options.queues.message_encoding == "none"
    assert options.route_prefix == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "host.json is not JSON"),
        ("[]", "host.json must hold an object"),
        ("{}", "missing required field `version`"),
        ('{"version": "1.0"}', "Invalid enum value '1.0' - at `$.version`"),
        (
            json.dumps({"version": "2.0", "extensions": {"queues": {"batchSize": 99}}}),
            "$.extensions.queues.batchSize",
        ),
        (
            json.dumps({"version": "2.0", "extensions": {"queues": {"visibilityTimeout": "30"}}}),
            "'30' is not a time span",
        ),
        (
            json.dumps({"version": "2.0", "extensions": {"queues": {"maxPollingInterval": "00:00:00"}}}),
            "at least",
        ),
        (json.dumps({"version": "2.0", "extensions": 7}), "$.extensions"),
    ],
)
def test_an_invalid_file_is_refused_naming_the_place(tmp_path: Path, text: str, said: str) -> None:
    """One line says where and what."""
    with pytest.raises(AppRefused) as refusal:
        read_host_json(_write(tmp_path, text), {})
    assert said in str(refusal.value)
    assert str(refusal.value).startswith("host.json")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """The message holds the least that would do."""
    with pytest.raises(AppRefused, match=re.escape('{"version": "2.0"}')):
        read_host_json(tmp_path, {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("00:00:02", timedelta(seconds=2)),
        ("1.02:03:04.5", timedelta(days=1, hours=2, minutes=3, seconds=4.5)),
        ("00:00:00.100", timedelta(milliseconds=100)),
    ],
)
def test_time_spans(text: str, expected: timedelta) -> None:
    """As .NET writes them."""
    assert duration(text) == expected
