"""Checkpoints of a training run: what a killed run goes on from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from sentiment.errors import DataError

_FILE = "checkpoint.pt"


def save_checkpoint(folder: Path, identity: str, state: dict[str, Any]) -> None:
    """Replace the checkpoint in `folder`, whole or not at all.

    `identity` stands for everything the run depends on (data, settings).
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"{_FILE}.{os.getpid()}"
    try:
        with temporary.open("wb") as file:
            torch.save({"identity": identity, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / _FILE)
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(folder: Path, identity: str) -> dict[str, Any] | None:
    """Return the state saved in `folder`, or None when there is none.

    Raises:
        DataError: the checkpoint is unreadable, or of a run on other data or
            with other settings.
    """
    path = folder / _FILE
    if not path.exists():
        return None
    try:
        # Tensors and plain values only: a checkpoint never runs code.
        state: dict[str, Any] = torch.load(path, weights_only=True)
    except Exception as error:  # torch raises whatever the broken byte leads to
        raise DataError(
            path, 0, f"the checkpoint cannot be read ({error}): delete it to start anew"
        ) from error
    if state.pop("identity", None) != identity:
        raise DataError(
            path,
            0,
            "the checkpoint is of a run with other data or settings: "
            "delete it, or name another --checkpoints",
        )
    return state
