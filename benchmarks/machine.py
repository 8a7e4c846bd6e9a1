"""What the figures were measured on: no figure means anything without it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

from msgspec import Struct

_PACKAGES = ("onnxruntime", "tokenizers", "torch", "transformers", "mlflow")


class Machine(Struct, frozen=True):
    """Cores, memory and versions; `load` is the load average of the last minute when it began."""

    system: str
    processor: str
    cores: int
    memory_gb: float
    python: str
    packages: dict[str, str]
    load: float


def describe_machine() -> Machine:
    """Return the facts of this machine and of the installed packages."""
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        processor=_processor(),
        cores=usable_cores(),
        memory_gb=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        python=platform.python_version(),
        packages=_versions(),
        load=round(os.getloadavg()[0], 2),
    )


def usable_cores() -> int:
    """Return how many cores this process may use: fewer than there are, in a container."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or "unknown processor"


def _versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
