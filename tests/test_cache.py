"""What the cache hands out has just been verified, whoever wrote, damaged or removed what lies there."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from sentiment.cache import ModelCache
from sentiment.errors import InvalidModel, StoreUnavailable
from sentiment.manifest import MANIFEST, ONNX, SERVING_FILES, WEIGHTS, read_manifest
from tests.models import make_model_folder


class Shelf:
    """A cache, and the model that its downloads come from."""

    def __init__(self, folder: Path) -> None:
        self.model = make_model_folder(folder / "model")
        self.record, self.digest = read_manifest(self.model)
        self.folder = folder / "cache"
        self.downloads: list[str] = []

    def provide(self, files: tuple[str, ...] = SERVING_FILES) -> Path:
        self.downloads.clear()
        raw = (self.model / MANIFEST).read_bytes()
        return ModelCache(self.folder).provide(self.record, raw, files, self._download)

    def _download(self, name: str, target: Path) -> None:
        self.downloads.append(name)
        shutil.copy(self.model / name, target)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_version_lies_under_the_digest_of_its_manifest(shelf: Shelf) -> None:
    """With what was asked for, and nothing left of the way there."""
    entry = shelf.provide()
    assert entry == shelf.folder / shelf.digest
    assert _files(shelf.folder) == {f"{shelf.digest}/{name}" for name in (*SERVING_FILES, MANIFEST)}
    assert list(shelf.folder.iterdir()) == [entry]


def test_what_is_there_is_not_downloaded_again(shelf: Shelf) -> None:
    shelf.provide()
    shelf.provide()
    assert shelf.downloads == []


def test_more_files_of_a_version_are_added(shelf: Shelf) -> None:
    """Only the missing ones are asked for; the others stay where whoever reads them has them."""
    entry = shelf.provide()
    inode = (entry / ONNX).stat().st_ino
    assert shelf.provide((*SERVING_FILES, WEIGHTS)) == entry
    assert shelf.downloads == [WEIGHTS]
    assert (entry / ONNX).stat().st_ino == inode


@pytest.mark.parametrize("name", [*SERVING_FILES, MANIFEST])
@pytest.mark.parametrize("damage", ["altered", "cut short", "gone", "emptied"])
def test_a_damaged_file_is_downloaded_again(shelf: Shelf, name: str, damage: str) -> None:
    """A crash may leave any of these behind; a manifest is written from what its digest vouches for."""
    entry = shelf.provide()
    path, content = entry / name, (entry / name).read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"altered": content[:-1] + b"?", "cut short": content[:7], "emptied": b""}[damage])
    assert (ModelCache(shelf.folder).manifest(shelf.digest) is None) == (name == MANIFEST)
    assert shelf.provide() == entry
    assert path.read_bytes() == content
    assert shelf.downloads == ([] if name == MANIFEST else [name])


def test_a_folder_without_anything_in_it_is_filled(shelf: Shelf) -> None:
    (shelf.folder / shelf.digest / "onnx").mkdir(parents=True)
    assert _files(shelf.provide()) == {*SERVING_FILES, MANIFEST}


def test_a_download_that_fails_leaves_nothing(shelf: Shelf) -> None:
    """The error is the download's own."""
    (shelf.model / ONNX).unlink()

    def refuse(name: str, target: Path) -> None:
        raise InvalidModel("tiny-1", name, "is missing in the store")

    with pytest.raises(InvalidModel, match="is missing in the store"):
        ModelCache(shelf.folder).provide(shelf.record, b"raw", SERVING_FILES, refuse)
    assert list(shelf.folder.iterdir()) == []


@pytest.mark.parametrize("digest", ["", "..", "../cache", "f" * 63, "F" * 64, "f" * 64])
def test_there_is_no_manifest_for_what_is_no_digest_or_not_here(shelf: Shelf, digest: str) -> None:
    shelf.provide()
    assert ModelCache(shelf.folder).manifest(digest) is None


def test_old_versions_go_and_what_is_not_the_caches_own_stays(shelf: Shelf) -> None:
    """Leftovers of crashes, and all but the last few versions, once they have been unused for an hour."""
    recent_leftover, old_leftover = "." + "a" * 64 + ".recent", "." + "c" * 64 + ".old"
    others = ["b" * 63, "my files", "f" * 64 + ".mine"]
    versions = [f"{number}" * 64 for number in range(6)]
    for age, name in enumerate([recent_leftover, old_leftover, *others, *versions]):
        (shelf.folder / name).mkdir(parents=True)
        hours = 0 if name == recent_leftover else 2 + age
        os.utime(shelf.folder / name, (time.time() - hours * 3600,) * 2)
    shelf.provide()
    # Four are kept: the one just asked for, and the three that were used last.
    kept = {recent_leftover, *others, shelf.digest, *versions[:3]}
    assert {path.name for path in shelf.folder.iterdir()} == kept


def test_versions_used_a_moment_ago_stay_however_many_they_are(shelf: Shelf) -> None:
    """Another process may be about to load one of them."""
    versions = {f"{number}" * 64 for number in range(6)}
    for name in versions:
        (shelf.folder / name).mkdir(parents=True)
    shelf.provide()
    assert {path.name for path in shelf.folder.iterdir()} == {*versions, shelf.digest}


def test_a_folder_that_cannot_be_written_says_which_setting_to_change(shelf: Shelf) -> None:
    shelf.folder.write_text("a file in its place")
    with pytest.raises(StoreUnavailable, match="MODEL_CACHE_FOLDER") as caught:
        shelf.provide()
    assert isinstance(caught.value.__cause__, OSError)
