"""Fixtures that every test may use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from localhost.azurite import Azurite

# No example fails for having been slow.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

#: Programs are installed here once and used by every later run; `make clean` removes them.
INSTALL_FOLDER = Path(__file__).parent.parent / ".localhost" / "programs"


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    """A real storage emulator on free ports, in memory; tests share it, so each uses names of its own."""
    with Azurite(None, install_folder=INSTALL_FOLDER) as running:
        yield running
