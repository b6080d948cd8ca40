"""Processes (ranks) that train one network together, started by torchrun or SLURM."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed

from pcloud.errors import InputError
from pcloud.storage import dump, load

__all__ = ["ONE", "Ranks", "is_launched", "joined", "lost_contact"]

_TIMEOUT = timedelta(hours=24)  # the first rank reads the jets; a killed rank is noticed at once
_PORTS = (20_000, 10_000)  # first port, and number of ports, of SLURM jobs by their number

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """Number of this process, and of all processes that train one network.

    Parameters
    ----------
    rank, world : int
        Number of this process, and of all.
    local : int
        Number of processes on this machine.
    """

    rank: int = 0
    world: int = 1
    local: int = 1

    @property
    def is_first(self) -> bool:
        """True for the process that reads the jets and writes files."""
        return self.rank == 0

    def on_first(self, work: Callable[[], T]) -> T:
        """Result of a function that only the first rank calls.

        If it fails there, the other ranks end without a message.
        """
        if self.world == 1:
            return work()
        if not self.is_first:
            is_good, value = load(self._broadcast(b""))
            if not is_good:
                raise SystemExit(value)
            return value
        try:
            value = work()
        except BaseException as error:
            code = error.code if isinstance(error, SystemExit) else 2
            self._broadcast(dump((False, code)))
            raise
        self._broadcast(dump((True, value)))
        return value

    def _broadcast(self, content: bytes) -> bytes:
        values = [content]
        distributed.broadcast_object_list(values)
        return values[0]

    def any(self, *flags: object) -> tuple[bool, ...]:
        """For each flag, whether it is true on some rank."""
        if self.world == 1:
            return tuple(map(bool, flags))
        found = torch.tensor([int(bool(flag)) for flag in flags])
        distributed.all_reduce(found, distributed.ReduceOp.MAX)
        return tuple(map(bool, found.tolist()))

    def gather(self, value: Any) -> list[Any]:
        """Values of all ranks, on the first one; there alone the list is complete."""
        if self.world == 1:
            return [value]
        values = [None] * self.world if self.is_first else None
        distributed.gather_object(value, values)
        return values or [value]


ONE = Ranks()
"""A process by itself."""


@contextlib.contextmanager
def joined() -> Iterator[Ranks]:
    """Context in which the processes of a job are connected; one process if there is no job.

    Jobs of torchrun have ``WORLD_SIZE`` and ``RANK``, steps of SLURM (srun) their own variables.
    """
    ranks = _launched()
    if ranks.world == 1 or distributed.is_initialized():
        yield ranks
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, timeout=_TIMEOUT)
    try:
        yield ranks
    finally:
        with contextlib.suppress(RuntimeError):
            distributed.destroy_process_group()


def _launched() -> Ranks:
    """Ranks by the environment; that of SLURM is completed as torchrun would."""
    if "TORCHELASTIC_RUN_ID" not in os.environ and int(_slurm("STEP_NUM_TASKS") or 1) > 1:
        os.environ.update(
            RANK=_slurm("PROCID"),
            LOCAL_RANK=_slurm("LOCALID"),
            WORLD_SIZE=_slurm("STEP_NUM_TASKS"),
            LOCAL_WORLD_SIZE=_slurm("STEP_TASKS_PER_NODE").partition("(")[0].partition(",")[0],
            GROUP_RANK=_slurm("NODEID"),
        )
        os.environ.setdefault("MASTER_ADDR", _first_node(_slurm("STEP_NODELIST")))
        port = _PORTS[0] + int(_slurm("JOB_ID") or 0) % _PORTS[1]
        os.environ.setdefault("MASTER_PORT", str(port))
    world = int(os.environ.get("WORLD_SIZE", 1))
    if world == 1 or "RANK" not in os.environ:
        return ONE
    return Ranks(int(os.environ["RANK"]), world, int(os.environ.get("LOCAL_WORLD_SIZE", world)))


def is_launched() -> bool:
    """Return True if this process is one of several of a job."""
    return _launched().world > 1


def _slurm(name: str) -> str:
    return os.environ.get(f"SLURM_{name}", "")


def _first_node(nodes: str) -> str:
    """First name in a list of SLURM such as ``node[01-03,7]``."""
    from lightning.fabric.plugins.environments import SLURMEnvironment

    return SLURMEnvironment.resolve_root_node_address(nodes)


@contextlib.contextmanager
def lost_contact(ranks: Ranks) -> Iterator[None]:
    """Context in which the end of another rank is an input error, which one rank reports.

    Raises
    ------
    InputError
        On the first rank that notices it.
    SystemExit
        On the others.
    """
    try:
        yield
    except RuntimeError as error:
        if ranks.world == 1 or not _is_of_connection(error):
            raise
        if not _is_first_to_notice():
            raise SystemExit(2) from None
        raise InputError(
            f"rank {ranks.rank} of {ranks.world} has lost contact to another one, which has ended; "
            "the same command continues the run"
        ) from error


def _is_of_connection(error: RuntimeError) -> bool:
    known = (distributed.DistBackendError, distributed.DistNetworkError)
    words = ("gloo", "Connection", "NCCL", "Socket")
    return isinstance(error, known) or any(word in str(error) for word in words)


def _is_first_to_notice() -> bool:
    """Return True for the first rank that asks; the store may have ended with another rank."""
    try:
        store = distributed.distributed_c10d._get_default_store()
        return int(store.add("pcloud_lost_contact", 1)) == 1
    except (RuntimeError, ValueError):
        return True
