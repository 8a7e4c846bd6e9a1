"""One training run in several processes, as Azure ML or torchrun starts them (environment `WORLD_SIZE`)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from msgspec import Struct
from torch import distributed


class Group(Struct, frozen=True):
    """This process among those of the run."""

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def wait(self) -> None:
        """Return once every process of the run has come here."""
        if self.size > 1:
            distributed.barrier()


@contextmanager
def joined(environ: Mapping[str, str] = os.environ) -> Iterator[Group]:
    """Join the processes of this run; alone where `environ` has no `WORLD_SIZE` above one."""
    gpu = torch.cuda.is_available()
    size = int(environ.get("WORLD_SIZE") or 1)
    if size == 1:
        yield Group(0, 1, torch.device("cuda" if gpu else "cpu"))
        return
    local = int(environ.get("LOCAL_RANK") or 0)
    device = torch.device("cuda", local) if gpu else torch.device("cpu")
    if gpu:
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if gpu else "gloo")
    try:
        yield Group(distributed.get_rank(), size, device)
    finally:
        distributed.destroy_process_group()
