"""Fixtures of the retraining loop's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from localhost.azurite import Azurite
from tests.retrain.world import World, open_world


@pytest.fixture
def world(azurite: Azurite, tmp_path: Path) -> Iterator[World]:
    """A loop on a store of its own, at noon, with a champion and nothing to learn."""
    with open_world(azurite, tmp_path) as world:
        yield world
