"""Model versions on disk, each in a folder named after its manifest's SHA-256.

Several processes may share the folder. What is found there counts for nothing
until it has been checked against the manifest, and the manifest against the name.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from sentiment.errors import InvalidModel, StoreUnavailable
from sentiment.manifest import MANIFEST, check_file
from sentiment.records import FileEntry, Manifest

_DIGEST = re.compile(r"[0-9a-f]{64}")
_UNFINISHED = re.compile(r"\.[0-9a-f]{64}\..+")

# A version in use is in memory; what is kept is for the next process. An hour is
# past any download, and past any load of what another process fetched a moment ago.
_KEPT_VERSIONS = 4
_KEPT_SECONDS = 3600.0


class ModelCache:
    """The folder where fetched versions are kept; it need not exist yet."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def manifest(self, digest: str) -> bytes | None:
        """Return the manifest with this SHA-256 (hexadecimal) if it is here, unaltered."""
        if not _DIGEST.fullmatch(digest):
            return None
        try:
            raw = (self._folder / digest / MANIFEST).read_bytes()
        except OSError:
            return None
        return raw if hashlib.sha256(raw).hexdigest() == digest else None

    def provide(
        self, record: Manifest, raw: bytes, files: Sequence[str], download: Callable[[str, Path], None]
    ) -> Path:
        """Return a folder with `files` and the manifest, all of them just verified.

        `record` is what the bytes `raw` say. `download(name, target)` is asked for
        each file that is missing here or altered, and must verify it.

        Raises:
            StoreUnavailable: the folder cannot be used: no space left, for example.
        """
        digest = hashlib.sha256(raw).hexdigest()
        entry = self._folder / digest
        with _disk(f"keep model {record.version} in {self._folder} (MODEL_CACHE_FOLDER)"):
            missing = [name for name in files if not _is_intact(entry / name, record.files[name])]
            if missing or self.manifest(digest) is None:
                self._complete(entry, raw, missing, download)
                self._tidy(entry)
            # When it was used last; a folder that came with the deployment may be read-only.
            with suppress(OSError):
                os.utime(entry)
        return entry

    def _complete(
        self, entry: Path, raw: bytes, names: Iterable[str], download: Callable[[str, Path], None]
    ) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{entry.name}.", dir=self._folder) as temporary:
            ready = Path(temporary) / "model"
            ready.mkdir()
            for name in names:
                (ready / name).parent.mkdir(parents=True, exist_ok=True)
                download(name, ready / name)
            (ready / MANIFEST).write_bytes(raw)
            with suppress(OSError):
                ready.rename(entry)
                return
            # Something is there already: of a process that was faster, or lacking files,
            # or altered. Whoever is reading it must not lose it: file by file, each in one step.
            for name in (*names, MANIFEST):
                (entry / name).parent.mkdir(parents=True, exist_ok=True)
                (ready / name).replace(entry / name)

    def _tidy(self, keep: Path) -> None:
        """Remove what crashes left behind, and the versions that were used longest ago."""
        now = time.time()
        ages: list[tuple[float, Path]] = []
        for folder in self._folder.iterdir():
            with suppress(FileNotFoundError):
                ages.append((now - folder.stat().st_mtime, folder))
        # Only what is named as this class names it: the folder may be anyone's.
        unfinished = [(age, folder) for age, folder in ages if _UNFINISHED.fullmatch(folder.name)]
        others = sorted((age, folder) for age, folder in ages if _DIGEST.fullmatch(folder.name))
        for age, folder in (*unfinished, *others[_KEPT_VERSIONS:]):
            if age > _KEPT_SECONDS and folder != keep:
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _disk(operation: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(operation, str(error)) from error


def _is_intact(path: Path, expected: FileEntry) -> bool:
    try:
        check_file(path, expected, path.parent, path.name)
    except InvalidModel:
        return False
    return True
