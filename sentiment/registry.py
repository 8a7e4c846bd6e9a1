"""Model versions in Blob Storage: published once, fetched verified, one of them the champion.

    <version>/<file>          written once, never overwritten
    <version>/manifest.json   written last: a version without one does not exist
    champion.json             the champion pointer, changed only with If-Match
    history/<n>.json          the n-th champion

History only copies: it may lag behind by one crash, `champion.json` is what counts.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec import Struct

from sentiment.blobs import Blobs, Content
from sentiment.cache import ModelCache
from sentiment.errors import InvalidModel, ModelConflict, ModelError, ModelNotFound
from sentiment.manifest import (
    MANIFEST,
    METRICS,
    SERVING_FILES,
    check_file,
    decode_manifest,
    read_manifest,
    verify,
)
from sentiment.records import Champion, Manifest, ModelVersion

if TYPE_CHECKING:
    from azure.storage.blob import ContainerClient

T = TypeVar("T")

logger = logging.getLogger(__name__)

CHAMPION = "champion.json"
HISTORY = "history"

#: The ETag that there is while no version has been promoted.
NO_CHAMPION = ""

# What is safe as a folder's and as a blob's name; blob names must not have a part that ends in a dot.
_VERSION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")
_ARCHIVED = re.compile(rf"{HISTORY}/([1-9][0-9]*)\.json")


class ChampionPointer(Struct, frozen=True):
    """The champion, and the ETag that replacing it is conditional on."""

    champion: Champion
    etag: str


class ModelRegistry:
    """The versions in one blob container, and a folder on disk where fetched ones are kept.

    Safe to share between threads; several processes may share both the container
    and the folder. Every method but `fetch` of a version that is on disk already
    raises `StoreUnavailable` where storage does not answer.
    """

    def __init__(self, container: ContainerClient, cache: Path) -> None:
        self._blobs = Blobs(container)
        self._cache = ModelCache(cache)

    # --- versions -----------------------------------------------------------

    def publish(self, folder: Path) -> str:
        """Upload the model in `folder` as an immutable version and return its name.

        Publishing the same content again completes what is missing in the store,
        after a crash for example, and changes nothing else.

        Raises:
            InvalidModel: the folder does not match its manifest, or the version's
                name is unfit for the store.
            ModelConflict: the store holds other content under this version.
        """
        record, digest = read_manifest(folder)
        verify(folder, record)
        version = record.version
        if not _is_version(version):
            raise InvalidModel(
                folder, MANIFEST, f"names the version {version!r}: use letters, digits, '.', '_', '-'"
            )
        published = self._blobs.read(f"{version}/{MANIFEST}")
        if published is not None and hashlib.sha256(published.data).hexdigest() != digest:
            raise _other_content(version, MANIFEST)
        self._blobs.create_container()
        present = set(self._blobs.names(f"{version}/"))
        # What is there is compared before anything is added to it.
        for name in sorted(record.files, key=lambda name: f"{version}/{name}" not in present):
            self._upload(folder, version, name, record.files[name].sha256, f"{version}/{name}" in present)
        self._upload(folder, version, MANIFEST, digest, published is not None)
        return version

    def versions(self) -> list[ModelVersion]:
        """Return the published versions, newest first: unfinished uploads are none.

        A version whose manifest cannot be read is left out, with a warning in the log.
        """
        found = self._champion()
        champion = found.champion.version if found else None
        names = self._blobs.names()
        versions = [name.removesuffix(f"/{MANIFEST}") for name in names if name.endswith(f"/{MANIFEST}")]
        listed = []
        for version in filter(_is_version, versions):
            try:
                listed.append(self._describe(version, version == champion))
            except ModelError as error:
                logger.warning("version %s is left out: %s", version, error)
        return sorted(listed, key=lambda version: (version.created_at, version.version), reverse=True)

    def fetch(self, version: str, sha256: str | None = None, files: Sequence[str] = SERVING_FILES) -> Path:
        """Return a folder with `files` of a version and its manifest, all of them just verified.

        `sha256` is that of the manifest; when it is given and the files are on
        disk already, storage is not asked.

        Raises:
            ModelNotFound: there is no such version.
            InvalidModel: a file in the store is missing or altered.
            StoreUnavailable: storage does not answer, or the disk takes no more.
        """
        raw = self._cache.manifest(sha256) if sha256 else None
        raw, record = self._manifest(version, raw)
        if sha256 is not None and hashlib.sha256(raw).hexdigest() != sha256:
            raise InvalidModel(version, MANIFEST, f"was altered: its SHA-256 is not {sha256}")
        for name in files:
            if name not in record.files:
                raise InvalidModel(version, name, "is not among the files that the manifest lists")
        return self._cache.provide(
            record, raw, files, lambda name, target: self._download(record, name, target)
        )

    # --- the champion -------------------------------------------------------

    def champion(self) -> ChampionPointer:
        """Return the champion and the ETag of its pointer.

        Raises:
            ModelNotFound: no version has been promoted yet.
            InvalidModel: the pointer cannot be read.
        """
        return self._champion() or _no_champion()

    def champion_if_changed(self, etag: str) -> ChampionPointer | None:
        """Return the champion if its pointer is not the one with `etag`; asks storage once.

        Raises:
            ModelNotFound: there is no champion any more.
            InvalidModel: the pointer cannot be read.
        """
        content = self._blobs.read_if_changed(CHAMPION, etag)
        if content is not None and content.etag == etag:
            return None
        return self._pointer(content) or _no_champion()

    def promote(self, version: str, *, by: str, reason: str, expected: str | None = None) -> Champion:
        """Make a published version the champion and return its record.

        `expected` is the pointer's ETag that the decision was made on
        (`NO_CHAMPION` for none yet); without it, whatever is there now is
        replaced. Promoting the champion again changes nothing.

        Raises:
            ModelNotFound: there is no such version.
            InvalidModel: the version is incomplete in the store.
            ModelConflict: the champion changed meanwhile.
        """
        return self._point(version, self._complete(version), by=by, reason=reason, expected=expected)

    def former_champion(self, *, to: str | None = None, avoid: Collection[str] = ()) -> Champion:
        """Return the record that `rollback` would go back to.

        Raises:
            ModelNotFound: there is none before the champion, or `to` never was one.
        """
        return self._former(self.champion().champion, to, avoid)

    def rollback(
        self,
        *,
        to: str | None = None,
        avoid: Collection[str] = (),
        by: str,
        reason: str,
        expected: str | None = None,
    ) -> Champion:
        """Make a former champion the champion again and return its record.

        Without `to` it is the one that served before the current one was promoted,
        so that rolling back twice goes back two promotions and never returns to
        what was rolled back; versions in `avoid` are passed over. `to` may be any
        version that was ever champion; `promote` is for the others. `expected` is as
        in `promote`.

        Raises:
            ModelNotFound: there is no champion before, or `to` never was one.
            InvalidModel: that version is incomplete or altered in the store.
            ModelConflict: the champion changed meanwhile.
        """
        found = self.champion()
        target = self._former(found.champion, to, avoid)
        if self._complete(target.version) != target.sha256:
            raise InvalidModel(target.version, MANIFEST, "was altered since this version was champion")
        return self._point(
            target.version,
            target.sha256,
            by=by,
            reason=reason,
            expected=found.etag if expected is None else expected,
            restores=_promotion(target),
        )

    def history(self) -> list[Champion]:
        """Return every champion there ever was, the current one first.

        Raises:
            InvalidModel: a record cannot be read.
        """
        found = self._champion()
        records = {found.champion.number: found.champion} if found else {}
        for number in self._archived() - records.keys():
            name = _archive_name(number)
            content = self._blobs.read(name)
            if content is not None:
                records[number] = _decode(content.data, Champion, HISTORY, name)
        return [records[number] for number in sorted(records, reverse=True)]

    def _former(self, champion: Champion, to: str | None, avoid: Collection[str]) -> Champion:
        serving = _promotion(champion)
        found = [
            record
            for record in self.history()
            if (
                record.number < serving and record.version not in avoid
                if to is None
                else record.version == to
            )
        ]
        if not found:
            raise ModelNotFound(
                to,
                f"There was no champion before {champion.version} to go back to."
                if to is None
                else f"{to} was never champion: promote it rather than roll back to it.",
            )
        return max(found, key=lambda record: record.number)

    def _point(
        self,
        version: str,
        sha256: str,
        *,
        by: str,
        reason: str,
        expected: str | None,
        restores: int | None = None,
    ) -> Champion:
        # The pointer is the truth and holds its whole record; history only copies it.
        # So the copy may be late by one crash: every change first archives the record
        # it is about to replace (and `history` reads the pointer too), hence nothing
        # is ever lost. The other order would leave entries of champions that never were.
        found = self._champion()
        archived = self._archived()
        if found is not None:
            self._archive(found.champion, archived)
            if (found.champion.version, found.champion.sha256) == (version, sha256):
                return found.champion
        if expected is not None and expected != (found.etag if found else NO_CHAMPION):
            raise _changed_meanwhile(version)
        record = Champion(
            version=version,
            sha256=sha256,
            previous=found.champion.version if found else None,
            promoted_at=datetime.now(UTC).isoformat(timespec="microseconds"),
            by=by,
            reason=reason,
            number=1 + max(archived | ({found.champion.number} if found else {0})),
            restores=restores,
        )
        done = (
            self._blobs.create(CHAMPION, _encode(record))
            if found is None
            else self._blobs.replace(CHAMPION, _encode(record), found.etag)
        )
        if not done:
            # The SDK repeats a request whose answer was lost, and then meets its own work.
            now = self._champion()
            if now is None or now.champion != record:
                raise _changed_meanwhile(version)
        self._archive(record, archived)
        return record

    def _archived(self) -> set[int]:
        return {
            int(match[1]) for match in map(_ARCHIVED.fullmatch, self._blobs.names(f"{HISTORY}/")) if match
        }

    def _archive(self, record: Champion, archived: set[int]) -> None:
        if record.number in archived:
            return
        name = _archive_name(record.number)
        if not self._blobs.create(name, _encode(record)):
            content = self._blobs.read(name)
            if content is None or _decode(content.data, Champion, HISTORY, name) != record:
                raise ModelConflict(
                    record.version, f"{name} is not the record that {CHAMPION} has for number {record.number}"
                )

    def _champion(self) -> ChampionPointer | None:
        return self._pointer(self._blobs.read(CHAMPION))

    def _pointer(self, content: Content | None) -> ChampionPointer | None:
        if content is None:
            return None
        champion = _decode(content.data, Champion, self._blobs.container, CHAMPION)
        return ChampionPointer(champion, content.etag)

    # --- files --------------------------------------------------------------

    def _manifest(self, version: str, raw: bytes | None = None) -> tuple[bytes, Manifest]:
        """Return a version's manifest: its bytes (read from the store where not given) and what they say."""
        if raw is None and _is_version(version):
            content = self._blobs.read(f"{version}/{MANIFEST}")
            raw = content.data if content else None
        if raw is None:
            raise ModelNotFound(version, f"There is no published version {version!r}.")
        record = decode_manifest(raw, version)
        if record.version != version:
            raise InvalidModel(version, MANIFEST, f"is that of version {record.version!r}")
        return raw, record

    def _complete(self, version: str) -> str:
        """Return the digest of a version's manifest once every file has been seen in the store."""
        raw, record = self._manifest(version)
        sizes = self._blobs.sizes(f"{version}/")
        for name, entry in record.files.items():
            size = sizes.get(f"{version}/{name}")
            if size != entry.size:
                said = "is missing" if size is None else f"has {size:,} bytes instead of {entry.size:,}"
                raise InvalidModel(version, name, f"{said} in the store: publish this version again")
        return hashlib.sha256(raw).hexdigest()

    def _describe(self, version: str, champion: bool) -> ModelVersion:
        raw, record = self._manifest(version)
        content = self._blobs.read(f"{version}/{METRICS}")
        metrics = _decode(content.data if content else b"{}", _Metrics, version, METRICS)
        return ModelVersion(
            version=version,
            sha256=hashlib.sha256(raw).hexdigest(),
            created_at=record.created_at,
            recipe=record.recipe,
            parent=record.parent,
            macro_recall=metrics.validation.macro_recall,
            champion=champion,
        )

    def _upload(self, folder: Path, version: str, name: str, expected: str, present: bool) -> None:
        data = (folder / name).read_bytes()
        if hashlib.sha256(data).hexdigest() != expected:
            raise InvalidModel(folder, name, "changed while it was being published")
        # Written once and never again: whoever else publishes under this name meanwhile
        # cannot slip a file of theirs below this manifest.
        if not present and self._blobs.create(f"{version}/{name}", data):
            return
        content = self._blobs.read(f"{version}/{name}")
        if content is None or content.data != data:
            raise _other_content(version, name)

    def _download(self, record: Manifest, name: str, target: Path) -> None:
        version, expected = record.version, record.files[name]
        size = self._blobs.download(f"{version}/{name}", target, expected.size)
        if size is None:
            raise InvalidModel(version, name, "is missing in the store")
        if size != expected.size:
            raise InvalidModel(
                version, name, f"has {size:,} bytes in the store, the manifest says {expected.size:,}"
            )
        check_file(target, expected, version, name)


class _Validation(Struct, frozen=True):
    macro_recall: float | None = None


class _Metrics(Struct, frozen=True):
    """What a list shows of `metrics.json`."""

    validation: _Validation = _Validation()


def _encode(record: Champion) -> bytes:
    return msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"


def _decode(raw: bytes, kind: type[T], folder: str, file: str) -> T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidModel(folder, file, f"cannot be read: {error}") from error


def _is_version(name: str) -> bool:
    return _VERSION.fullmatch(name) is not None and name not in (CHAMPION, HISTORY)


def _archive_name(number: int) -> str:
    return f"{HISTORY}/{number}.json"


def _promotion(record: Champion) -> int:
    """Return the number of the promotion that brought this version in; a roll-back refers to it."""
    return record.number if record.restores is None else record.restores


def _no_champion() -> ChampionPointer:
    raise ModelNotFound(
        None,
        "No model has been promoted yet: publish a model folder and promote its version "
        "('python -m sentiment models publish' and 'promote').",
    )


def _other_content(version: str, name: str) -> ModelConflict:
    return ModelConflict(
        version,
        f"{version}/{name} is in the store with other content, and is never overwritten: publish under "
        "another version; what an unfinished upload left may be deleted when no other is running",
    )


def _changed_meanwhile(version: str) -> ModelConflict:
    return ModelConflict(
        version, f"The champion changed meanwhile; {version} was not promoted: look again, decide again."
    )
