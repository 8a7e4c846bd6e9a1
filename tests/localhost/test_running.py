"""One host per state folder, and the note of where it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from localhost.errors import LocalhostError
from localhost.running import Running, announced, find_running, only_one


def test_a_second_host_is_told_where_the_first_is(tmp_path: Path) -> None:
    """Until the first has ended."""
    with only_one(tmp_path), announced(tmp_path, "http://localhost:7071", "key", {"A": "b"}):
        assert find_running(tmp_path) == Running("http://localhost:7071", os.getpid(), "key", {"A": "b"})
        with (
            pytest.raises(LocalhostError, match=rf"http://localhost:7071, process {os.getpid()}"),
            only_one(tmp_path),
        ):
            pytest.fail("two at once")
    assert find_running(tmp_path) is None
    with only_one(tmp_path):
        pass
