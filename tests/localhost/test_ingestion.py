"""Application Insights on this machine: it answers as the service does, keeps what it takes, and shows it."""

from __future__ import annotations

import gzip
import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localhost.command_line import main
from localhost.errors import LocalhostError
from localhost.ingestion import IngestionServer, Mode, describe_event, read_events
from tests.localhost.apps import until

EVENT = {
    "name": "Microsoft.ApplicationInsights.Event",
    "time": "2025-01-02T03:04:05.678Z",
    "iKey": "00000000-0000-0000-0000-000000000000",
    "tags": {"ai.operation.id": "0123456789abcdef"},
    "data": {
        "baseType": "EventData",
        "baseData": {
            "name": "Prediction",
            "properties": {"label": "a b"},
            "measurements": {"confidence": 0.5},
        },
    },
}
METRIC = EVENT | {
    "tags": {},
    "data": {
        "baseType": "MetricData",
        "baseData": {"metrics": [{"name": "Speed", "value": 9.0, "count": 2}]},
    },
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[IngestionServer]:
    with IngestionServer(tmp_path / "telemetry") as running:
        yield running


def _post(
    server: IngestionServer, body: bytes, path: str = "/v2/track", **headers: str
) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(
            "POST", path, body, {key.replace("_", "-"): value for key, value in headers.items()}
        )
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def _lines(*items: object) -> bytes:
    return b"\n".join(json.dumps(item).encode() for item in items)


def test_lines_arrays_and_gzip_are_taken(server: IngestionServer) -> None:
    """All forms in which clients of the service send."""
    status, said = _post(server, _lines(EVENT, METRIC))
    assert (status, said) == (200, {"itemsReceived": 2, "itemsAccepted": 2, "errors": []})
    assert _post(server, json.dumps([EVENT]).encode(), "/v2.1/track")[0] == 200
    assert _post(server, gzip.compress(_lines(METRIC)), Content_Encoding="gzip")[0] == 200
    assert server.events() == [EVENT, METRIC, EVENT, METRIC]


@pytest.mark.parametrize(
    ("body", "path", "headers"),
    [
        (b"not JSON", "/v2/track", {}),
        (b"", "/v2/track", {}),
        (b"[1]", "/v2/track", {}),
        (b'{"name": "x"}', "/v2/track", {}),
        (b"not gzip", "/v2/track", {"Content_Encoding": "gzip"}),
        (gzip.compress(_lines(EVENT))[:-9], "/v2/track", {"Content_Encoding": "gzip"}),
        (_lines(EVENT), "/elsewhere", {}),
    ],
)
def test_what_is_no_telemetry_is_refused(
    server: IngestionServer, body: bytes, path: str, headers: dict[str, str]
) -> None:
    """With a reason, and nothing is kept."""
    status, said = _post(server, body, path, **headers)
    assert status == 400
    assert said["errors"][0]["message"]
    assert server.events() == []


@pytest.mark.parametrize(
    ("mode", "status", "taken"),
    [(Mode.PART, 206, 2), (Mode.REFUSE_ITEMS, 400, 0), (Mode.THROTTLE, 429, 0), (Mode.FAIL, 500, 0)],
)
def test_on_demand_it_misbehaves(server: IngestionServer, mode: Mode, status: int, taken: int) -> None:
    """As the service may: each item that was not taken is named."""
    server.mode = mode
    found, said = _post(server, _lines(*[EVENT] * 4))
    assert (found, said["itemsReceived"], said["itemsAccepted"]) == (status, 4, taken)
    assert len(said["errors"]) == 4 - taken
    assert len(server.events()) == taken


@pytest.mark.parametrize("mode", [Mode.HANG, Mode.DRIP])
def test_a_mode_that_ends_lets_go_of_those_that_wait(server: IngestionServer, mode: Mode) -> None:
    """Nobody is kept for ever; what waited was not taken."""
    server.mode = mode
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("POST", "/v2/track", _lines(EVENT))
    until(lambda: server.requests == 1, "the request to be read")
    server.mode = Mode.TAKE
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        connection.getresponse()
    connection.close()
    assert server.events() == []


def test_the_door_closes_and_opens_on_the_same_port(server: IngestionServer) -> None:
    port = server.port
    server.mode = Mode.REFUSE
    with pytest.raises(ConnectionRefusedError):
        _post(server, _lines(EVENT))
    server.mode = Mode.TAKE
    assert server.port == port
    assert _post(server, _lines(EVENT))[0] == 200


def test_events_are_printed(
    server: IngestionServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`python -m localhost events`: one line each for people, whole envelopes for programs."""
    _post(server, _lines(EVENT, METRIC))
    assert main(["--state", str(tmp_path), "events"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        '2025-01-02 03:04:05  Prediction        01234567  label="a b" confidence=0.5',
        "2025-01-02 03:04:05  Speed                       count=2 mean=4.5 max=9",
    ]
    assert main(["--state", str(tmp_path), "events", "--json"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [EVENT, METRIC]


def test_without_events_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty answer would leave open whether anything works."""
    assert main(["--state", str(tmp_path), "events"]) == 0
    assert "no events yet" in capsys.readouterr().err


def test_a_line_that_is_still_written_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text(json.dumps(EVENT) + '\n{"na')
    assert list(read_events(tmp_path)) == [EVENT]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text("nonsense\n")
    with pytest.raises(LocalhostError, match=r"events\.jsonl, line 1 is damaged"):
        list(read_events(tmp_path))


def test_the_file_does_not_grow_for_ever(server: IngestionServer, tmp_path: Path) -> None:
    """The older half is kept beside it until it is replaced."""
    folder = tmp_path / "telemetry"
    folder.mkdir()
    (folder / "events.jsonl").write_bytes((json.dumps(EVENT).encode() + b"\n") * 50_000)
    _post(server, _lines(METRIC))
    assert (folder / "events.jsonl").stat().st_size < 1_000
    assert len(server.events()) == 50_001


def test_an_envelope_of_somebody_else_is_described_too() -> None:
    """The platform's host sends kinds that the app does not."""
    strange = {"name": "Microsoft.ApplicationInsights.Message", "time": "soon", "iKey": "", "data": {}}
    assert describe_event(strange).split() == ["soon", "Microsoft.ApplicationInsights.Message"]
