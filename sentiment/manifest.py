"""The model folder: which files it has, and the manifest that vouches for them.

A model folder is the layout Hugging Face users know and an MLflow model at the
same time. `manifest.json` is written last, so a folder without one is unfinished.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import msgspec

from sentiment.errors import InvalidModel
from sentiment.records import FileEntry, Manifest

MANIFEST = "manifest.json"
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
WEIGHTS = "model.safetensors"
ONNX = "onnx/model.onnx"
METRICS = "metrics.json"
MODEL_CARD = "model-card.md"
MLMODEL = "MLmodel"

#: What answering needs; the rest is for training on and for people.
SERVING_FILES = (CONFIG, TOKENIZER, ONNX, METRICS)


def fingerprint(path: Path) -> FileEntry:
    """Return size and SHA-256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return FileEntry(size=file.tell(), sha256=digest.hexdigest())


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the bytes of `manifest.json`; its SHA-256 names the version for good."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def decode_manifest(raw: bytes, folder: Path | str) -> Manifest:
    """Return the manifest in `raw`; `folder` is where it came from, for the message.

    Raises:
        InvalidModel: it is not a manifest, or names a file outside the folder.
    """
    try:
        manifest = msgspec.json.decode(raw, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidModel(folder, MANIFEST, f"cannot be read: {error}") from error
    for name in manifest.files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or name == MANIFEST or str(path) != name:
            raise InvalidModel(folder, MANIFEST, f"names {name!r}, which is no file of a model folder")
    for name in (*SERVING_FILES, WEIGHTS):
        if name not in manifest.files:
            raise InvalidModel(folder, MANIFEST, f"does not list {name}")
    return manifest


def read_manifest(folder: Path) -> tuple[Manifest, str]:
    """Return the manifest of `folder` and the SHA-256 of its bytes.

    Raises:
        InvalidModel: there is none, or it is not a manifest.
    """
    try:
        raw = (folder / MANIFEST).read_bytes()
    except FileNotFoundError as error:
        raise InvalidModel(folder, MANIFEST, "is missing: this is no (finished) model folder") from error
    return decode_manifest(raw, folder), hashlib.sha256(raw).hexdigest()


def verify(folder: Path, manifest: Manifest, files: Iterable[str] | None = None) -> None:
    """Check size and SHA-256 of `files` (all that the manifest lists, by default).

    Raises:
        InvalidModel: a file is missing or not what the manifest vouches for.
    """
    for name in manifest.files if files is None else files:
        check_file(folder / name, manifest.files[name], folder, name)


def check_file(path: Path, expected: FileEntry, folder: Path | str, name: str) -> None:
    """Check one file against its manifest entry; raises `InvalidModel`."""
    try:
        size = path.stat().st_size
        found = fingerprint(path) if size == expected.size else None
    except FileNotFoundError as error:
        raise InvalidModel(folder, name, "is missing") from error
    if found is None:
        raise InvalidModel(folder, name, f"has {size:,} bytes, the manifest says {expected.size:,}")
    if found.sha256 != expected.sha256:
        raise InvalidModel(folder, name, "was altered: its SHA-256 is not the manifest's")
