"""From the queue to the store: ``python -m benchmarks.feedback``.

An Azurite of its own; drains are threads that do what the platform does with the
queue function: receive a batch, store each message, delete it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from azure.data.tables import TableServiceClient
from azure.storage.queue import QueueServiceClient, TextBase64DecodePolicy
from msgspec import Struct

from benchmarks.machine import Machine, describe_machine
from benchmarks.processes import PROGRAMS
from localhost.azurite import Azurite
from sentiment import corrections
from sentiment.feedback.messages import Pseudonyms
from sentiment.feedback.store import CorrectionStore
from sentiment.feedback.tables import Table
from sentiment.records import CorrectionMessage
from sentiment.services import CORRECTIONS_QUEUE, CORRECTIONS_TABLE, Services
from sentiment.settings import Settings

_PENDING = (100, 1_000, 10_000)


class Drained(Struct, frozen=True):
    """How fast messages became rows."""

    drains: int
    messages: int
    rows: int
    rows_per_second: float


class Counted(Struct, frozen=True):
    """What it takes to count, and to judge, so many pending corrections."""

    pending: int
    pages: int
    count_seconds: float
    count_to_50_seconds: float
    judge_seconds: float


class Report(Struct, frozen=True):
    """All figures of one run."""

    machine: Machine
    drained: list[Drained]
    duplicates: Drained
    counted: list[Counted]


def run(messages: int) -> Report:
    """Measure everything, each on an empty store."""
    machine = describe_machine()
    drained = []
    for drains in (1, 4):
        with _store() as (services, connection_string):
            drained.append(_drain(services, connection_string, _bodies(messages), drains))
    with _store() as (services, connection_string):
        shuffled = _bodies(messages) * 3
        random.Random(7).shuffle(shuffled)
        duplicates = _drain(services, connection_string, shuffled, 4)
    with _store() as (services, connection_string):
        counted = _count(services, connection_string)
    return Report(machine, drained, duplicates, counted)


@contextmanager
def _store() -> Iterator[tuple[Services, str]]:
    with Azurite(None, install_folder=PROGRAMS) as azurite:
        services = Services(
            Settings.from_env(
                {
                    "AzureWebJobsStorage": azurite.connection_string,
                    "FEEDBACK_SIGNING_KEYS": "nothing is signed here",
                }
            )
        )
        try:
            yield services, azurite.connection_string
        finally:
            services.close()


def _bodies(number: int) -> list[str]:
    now = datetime.now(UTC)
    return [
        msgspec.json.encode(
            CorrectionMessage(
                schema=1,
                id=f"id-{each}",
                text=f"the flight {each} was late and nobody said a word about it",
                predicted="positive",
                corrected="negative",
                model_version="v1",
                source="bench",
                user=f"user {each % 20}",
                created_at=now,
            )
        ).decode()
        for each in range(number)
    ]


def _drain(services: Services, connection_string: str, bodies: list[str], drains: int) -> Drained:
    for body in bodies:
        services.queue.send(body)
    with QueueServiceClient.from_connection_string(connection_string) as service:

        def drain(_: int) -> None:
            queue = service.get_queue_client(
                CORRECTIONS_QUEUE, message_decode_policy=TextBase64DecodePolicy()
            )
            while batch := list(queue.receive_messages(max_messages=16, visibility_timeout=120)):
                for message in batch:
                    corrections.store(message.content.encode(), message.inserted_on, services)
                    queue.delete_message(message)

        start = time.perf_counter()
        with ThreadPoolExecutor(drains) as threads:
            list(threads.map(drain, range(drains)))
        seconds = time.perf_counter() - start
    rows = services.corrections.count_pending()
    return Drained(drains, len(bodies), rows, round(len(bodies) / seconds, 1))


def _count(services: Services, connection_string: str) -> list[Counted]:
    counted: list[Counted] = []
    there = 0
    for pending in _PENDING:
        _seed(connection_string, there, pending)
        there = pending
        store = services.corrections
        store.count_pending(1)
        seconds = _seconds(store.count_pending)
        assert store.count_pending() == pending
        counted.append(
            Counted(
                pending=pending,
                pages=_pages(connection_string),
                count_seconds=seconds,
                count_to_50_seconds=_seconds(lambda: services.corrections.count_pending(50)),
                judge_seconds=_seconds(lambda: corrections.judgements(services)),
            )
        )
    return counted


def _seed(connection_string: str, first: int, beyond: int) -> None:
    """Write rows as the store does, but a hundred at once."""
    with TableServiceClient.from_connection_string(connection_string) as tables:
        table = tables.create_table_if_not_exists(CORRECTIONS_TABLE)
        shards: dict[str, list[dict[str, Any]]] = {}
        for number in range(first, beyond):
            id = f"id-{number}"
            shard = hashlib.sha256(id.encode()).hexdigest()[0]
            for prefix in ("c", "p"):
                shards.setdefault(shard, []).append(
                    {
                        "PartitionKey": shard,
                        "RowKey": f"{prefix}|{id}",
                        "text_key": hashlib.sha256(id.encode()).hexdigest()[:32],
                        "predicted": "positive",
                        "corrected": "negative",
                        "user": f"u_{number % 50:032}",
                        "created_at": "2025-01-01T00:00:00.000000+00:00",
                    }
                )
        for rows in shards.values():
            for start in range(0, len(rows), 100):
                table.submit_transaction([("create", row) for row in rows[start : start + 100]])


def _pages(connection_string: str) -> int:
    """Return how many requests listing all pending keys takes."""
    requests = 0

    def count(response: Any) -> None:
        nonlocal requests
        requests += 1

    with TableServiceClient.from_connection_string(connection_string, raw_response_hook=count) as tables:
        store = CorrectionStore(Table(tables.get_table_client(CORRECTIONS_TABLE)), Pseudonyms("bench" * 4))
        store.count_pending()
    return requests


def _seconds(call: Any) -> float:
    start = time.perf_counter()
    call()
    return round(time.perf_counter() - start, 3)


def main() -> int:
    """Run, print, and keep the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.feedback", description=__doc__)
    parser.add_argument("--messages", type=int, default=300)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    report = run(options.messages)
    for drained in report.drained:
        print(f"{drained.drains} drains: {drained.rows} rows, {drained.rows_per_second} a second")
    duplicates = report.duplicates
    print(f"each three times, shuffled, 4 drains: {duplicates.messages} messages, {duplicates.rows} rows")
    for counted in report.counted:
        print(
            f"{counted.pending} pending: {counted.pages} pages, counted in {counted.count_seconds} s "
            f"(to 50: {counted.count_to_50_seconds} s), judged in {counted.judge_seconds} s"
        )
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(msgspec.to_builtins(report), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
