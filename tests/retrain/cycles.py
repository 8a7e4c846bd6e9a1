"""A cycle on real storage: its manifest, what was said, the champion, and the files of a pipeline."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from azure.storage.blob import ContainerClient

from localhost.azurite import Azurite
from sentiment.blobs import Blobs
from sentiment.feedback.messages import Pseudonyms
from sentiment.feedback.store import CorrectionStore
from sentiment.feedback.tables import Table
from sentiment.manifest import read_manifest
from sentiment.records import CorrectionMessage, Label
from sentiment.registry import ModelRegistry
from sentiment.retrain.cycles import write_manifest
from sentiment.retrain.preparation import Fingerprints, prepare
from sentiment.retrain.records import CycleManifest
from tests.models import make_model_folder
from tests.wire import Wire

NOW = datetime(2025, 6, 1, tzinfo=UTC)
BASE = [
    ("negative", "the ferry was late and they lost my suitcase"),
    ("neutral", "the museum opens at ten on weekdays"),
    ("positive", "what a lovely concert in the park tonight"),
    ("neutral", "parliament votes on the new budget on thursday"),
]
VALIDATION = [
    ("negative", "this update broke everything on my laptop"),
    ("neutral", "the shop on the corner sells stamps"),
    ("positive", "best pancakes i have had in years"),
]
GOLDEN = [
    ("negative", "worst customer service i have ever had to deal with"),
    ("neutral", "tickets go on sale next monday morning"),
    ("positive", "so proud of my little sister graduating today"),
]


def write_tsv(path: Path, rows: list[tuple[str, str]]) -> Path:
    path.write_text("label\ttext\n" + "".join(f"{label}\t{text}\n" for label, text in rows), encoding="utf-8")
    return path


def write_gate(folder: Path, verdict: str = "promote", *reasons: str) -> Path:
    """Write what the gate says into a folder of its own, and return that."""
    gate = folder / f"gate-{verdict}"
    gate.mkdir(exist_ok=True)
    said = {"schema": 1, "verdict": verdict, "reasons": reasons, "checks": []}
    (gate / "gate.json").write_text(json.dumps(said), encoding="utf-8")
    (gate / "gate.md").write_text(f"# {verdict}\n", encoding="utf-8")
    return gate


def correction(id: str, text: str) -> CorrectionMessage:
    """Return an error, each of a user of its own: predicted positive, corrected to negative."""
    return CorrectionMessage(
        schema=1,
        id=id,
        text=text,
        predicted="positive",
        corrected="negative",
        model_version="tiny-1",
        source="test",
        user=id,
        created_at=NOW,
    )


def cycle_manifest(champion: Path, *errors: str, cycle: int = 1) -> CycleManifest:
    version, digest = read_manifest(champion)
    return CycleManifest(
        cycle=cycle,
        created_at=NOW.isoformat(),
        reason="enough errors",
        champion=version.version,
        champion_sha256=digest,
        errors=tuple(sorted(errors)),
        confirmations=(),
        predictions={},
        corrected={},
    )


class Cycle:
    """One cycle, its champion being `tiny-1`; every store is the test's own and behind one wire."""

    def __init__(
        self, azurite: Azurite, folder: Path, wire: Wire, containers: tuple[ContainerClient, ...]
    ) -> None:
        self.wire, self.folder = wire, folder
        models, retrain = containers
        self.blobs = Blobs(retrain)
        self.registry = ModelRegistry(models, folder / f"cache-{uuid.uuid4().hex}")
        self.table = wire.open_table(azurite, f"t{uuid.uuid4().hex}")
        self.store = CorrectionStore(Table(self.table), Pseudonyms("a-key-for-pseudonyms"))
        self.champion = folder / "tiny-1"
        if not self.champion.exists():
            make_model_folder(self.champion, "tiny-1")
            for name, rows in (("base", BASE), ("validation", VALIDATION), ("golden", GOLDEN)):
                write_tsv(folder / f"{name}.tsv", rows)
        self.registry.publish(self.champion)
        self.registry.promote("tiny-1", by="test", reason="first")
        self.out = folder / f"data-{uuid.uuid4().hex}"

    @classmethod
    @contextmanager
    def open(cls, azurite: Azurite, folder: Path) -> Iterator[Cycle]:
        wire = Wire()
        with wire.open(azurite) as models, wire.open(azurite) as retrain:
            cycle = cls(azurite, folder, wire, (models, retrain))
            with cycle.table:
                yield cycle

    def say(self, id: str, text: str) -> str:
        assert self.store.add(correction(id, text), now=NOW)
        return id

    def decide(self, *errors: str, cycle: int = 1) -> CycleManifest:
        manifest = cycle_manifest(self.champion, *errors, cycle=cycle)
        self.blobs.create_container()
        write_manifest(self.blobs, manifest)
        return manifest

    def prepare(self, manifest: CycleManifest) -> Fingerprints:
        return prepare(
            manifest,
            corrections=self.store,
            registry=self.registry,
            base=self.folder / "base.tsv",
            validation=self.folder / "validation.tsv",
            golden=self.folder / "golden.tsv",
            out=self.out,
        )

    def candidate(self, version: str = "tiny-2", bias: Label = "negative", parent: str = "tiny-1") -> Path:
        folder = self.folder / version
        return folder if folder.exists() else make_model_folder(folder, version, bias, parent=parent)

    def gate(self, verdict: str = "promote", *reasons: str) -> Path:
        return write_gate(self.folder, verdict, *reasons)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
