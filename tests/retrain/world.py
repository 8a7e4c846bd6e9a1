"""A retraining loop on real storage, with what surrounds it: users, jobs, deployments, a clock."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import msgspec
from azure.data.tables import TableClient
from azure.storage.blob import BlobLeaseClient, ContainerClient
from msgspec.structs import replace

from localhost.azurite import Azurite
from sentiment.blobs import Blobs
from sentiment.errors import SentimentError
from sentiment.feedback.messages import Pseudonyms, iso
from sentiment.feedback.store import CorrectionStore
from sentiment.feedback.tables import Table
from sentiment.records import CorrectionMessage, Label
from sentiment.registry import ModelRegistry
from sentiment.retrain.records import CycleManifest, Outcome, State, TickRecord
from sentiment.retrain.refusals import Refusal, refuse
from sentiment.retrain.state import STATE, encode, read_state
from sentiment.retrain.tick import Parts, Retraining
from sentiment.settings import RetrainPolicy
from sentiment.telemetry import Telemetry
from tests.models import make_model_folder
from tests.retrain.workspace import Workspace
from tests.wire import Wire

NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)
PSEUDONYMS = Pseudonyms("a-key-for-pseudonyms")
POLICY = RetrainPolicy(
    threshold=6,
    max_age_days=7,
    min_errors=2,
    cooldown_hours=2,
    job_timeout_hours=12,
    deploy_timeout_hours=48,
)


class World:
    """The loop as one process has it, on `wire`; `by_hand` is the same storage past it."""

    def __init__(self, azurite: Azurite, folder: Path, stack: ExitStack, policy: RetrainPolicy) -> None:
        self.wire = Wire()
        self.folder = folder
        self.now = NOON
        self.workspace = Workspace()
        #: What was asked to be deployed, and what a deployment raises.
        self.deployments: list[Outcome] = []
        self.deploy_error: SentimentError | None = None
        #: Since when predictions were counted.
        self.counted_since: list[str] = []
        self.watched: Callable[[], str | None] = lambda: None
        self.policy = policy
        self.numbers = 0
        table = f"t{uuid.uuid4().hex}"
        wires = (self.wire, Wire())
        retrain = stack.enter_context(self.wire.open(azurite))
        models = stack.enter_context(self.wire.open(azurite))
        rows = stack.enter_context(self.wire.open_table(azurite, table))
        self.by_hand: ContainerClient = stack.enter_context(wires[1].open(azurite, retrain.container_name))
        models_by_hand = stack.enter_context(wires[1].open(azurite, models.container_name))
        self.rows_by_hand: TableClient = stack.enter_context(wires[1].open_table(azurite, table))
        self.rows_by_hand.create_table()
        self.store = CorrectionStore(Table(self.rows_by_hand), PSEUDONYMS)
        self.registry = ModelRegistry(models_by_hand, folder / "cache")
        self.loop = self._loop(retrain, models, rows)
        #: Another instance of the app.
        self.other = self._loop(self.by_hand, models_by_hand, self.rows_by_hand)
        self.promote("seed", "the first")
        self.wire.forget()

    def _loop(self, retrain: ContainerClient, models: ContainerClient, rows: TableClient) -> Retraining:
        return Retraining(
            Parts(
                blobs=Blobs(retrain),
                store=CorrectionStore(Table(rows), PSEUDONYMS),
                registry=ModelRegistry(models, self.folder / "cache"),
                telemetry=Telemetry(None),
                policy=self.policy,
                user_cap=1.0,
                jobs=self.workspace,
                deploy=self._deploy,
                watch=lambda: self.watched(),
                predictions=self._predictions,
                clock=lambda: self.now,
            )
        )

    def _predictions(self, since: str) -> dict[Label, int]:
        self.counted_since.append(since)
        return {"positive": 7}

    def _deploy(self, outcome: Outcome) -> None:
        if self.deploy_error is not None:
            raise self.deploy_error
        self.deployments.append(outcome)

    # --- what people do -----------------------------------------------------

    def correct(
        self,
        count: int = 1,
        *,
        user: str | None = None,
        predicted: Label = "positive",
        corrected: Label = "negative",
        text: str | None = None,
    ) -> list[str]:
        """Have corrections stored; without a text each is of a text of its own."""
        ids = []
        for _ in range(count):
            self.numbers += 1
            message = CorrectionMessage(
                schema=1,
                id=f"id{self.numbers}",
                text=text or f"tweet number {self.numbers}",
                predicted=predicted,
                corrected=corrected,
                model_version="seed",
                source="test",
                user=user,
                created_at=self.now,
            )
            self.store.add(message, now=self.now)
            ids.append(message.id)
        return ids

    def confirm(self, count: int = 1) -> list[str]:
        return self.correct(count, corrected="positive")

    def erase(self, user: str) -> None:
        self.store.erase_user(PSEUDONYMS.of(user), now=self.now)

    def promote(self, version: str, reason: str) -> None:
        if not (self.folder / version).exists():
            make_model_folder(self.folder / version, version)
        self.registry.publish(self.folder / version)
        self.registry.promote(version, by="test", reason=reason)

    def roll_back(self, version: str) -> None:
        """What the watch does to the champion of the latest cycle."""
        self.registry.rollback(by="watch", reason="worse after all")
        refusal = Refusal(version=version, reason="worse after all", at=iso(self.now), by="watch")
        refuse(Blobs(self.by_hand), refusal)
        for id in self.learned():
            self.store.unlearn(id, self.state().cycle)

    def wait(self, **times: float) -> None:
        self.now += timedelta(**times)

    # --- what Azure ML does -------------------------------------------------

    def finish(
        self, verdict: Literal["promoted", "published", "refused"], *, pointer: bool = True, says: bool = True
    ) -> str:
        """Have the pipeline of the running cycle do its work; return the version it has made."""
        cycle = self.state().cycle
        version = f"cycle-{cycle}"
        if verdict == "promoted" and pointer:
            self.promote(version, f"cycle {cycle}: better by 2.0 points")
        outcome = Outcome(
            cycle=cycle,
            verdict=verdict,
            version=version,
            sha256=None,
            champion="seed",
            reasons=("macro-recall +2.0",),
            at=self.now.isoformat(),
        )
        if says:
            self.by_hand.upload_blob(f"cycles/{cycle}/outcome.json", encode(outcome), overwrite=True)
            self.workspace.end(self.state().job, "completed")
        else:
            self.workspace.end(self.state().job, "failed")
        return version

    def release_lease(self) -> None:
        """What time does to the lease of a tick that died, and other ticks to one that sleeps."""
        blob = self.by_hand.get_blob_client(STATE)
        if blob.exists() and blob.get_blob_properties().lease.state == "leased":
            BlobLeaseClient(blob).break_lease(0)

    def clear(self) -> None:
        """Begin anew: no correction, no cycle, no job; the champion stays."""
        self.release_lease()
        for name in list(self.by_hand.list_blob_names()):
            self.by_hand.delete_blob(name)
        for row in list(self.rows_by_hand.list_entities()):
            self.rows_by_hand.delete_entity(row["PartitionKey"], row["RowKey"])
        self.workspace.clear()
        self.deployments.clear()
        self.numbers = 0

    # --- looking ------------------------------------------------------------

    def tick(self) -> TickRecord:
        return self.loop.tick()

    def state(self) -> State:
        return read_state(Blobs(self.by_hand))

    def manifests(self) -> dict[int, bytes]:
        names = [name for name in self.by_hand.list_blob_names() if name.endswith("/manifest.json")]
        return {int(name.split("/")[1]): self.by_hand.download_blob(name).readall() for name in names}

    def manifest(self) -> CycleManifest:
        return msgspec.json.decode(self.manifests()[self.state().cycle], type=CycleManifest)

    def ticks(self) -> list[dict[str, Any]]:
        return [
            json.loads(self.by_hand.download_blob(name).readall())
            for name in sorted(self.by_hand.list_blob_names(name_starts_with="ticks/"))
        ]

    def learned(self) -> dict[str, int | None]:
        """Which cycle each correction was learned in; what is erased is left out."""
        return {one.id: one.cycle for one in self.store.all() if one.erased_at is None}

    def pending(self) -> set[str]:
        return {voice.id for voice in self.store.voices() if not voice.learned}

    def put_state(self, **changes: Any) -> None:
        """Write into the state what a clock, or a person, has put there."""
        self.by_hand.upload_blob(STATE, encode(replace(self.state(), **changes)), overwrite=True)


@contextmanager
def open_world(azurite: Azurite, folder: Path, policy: RetrainPolicy = POLICY) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(azurite, folder, stack, policy)
