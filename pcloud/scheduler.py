"""Work on many files, done by the processes of this machine or of a cluster through Dask."""

from __future__ import annotations

import contextlib
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pcloud.errors import InputError, MissingExtraError
from pcloud.run_files import Advance, ignore_progress

__all__ = ["Scheduler", "connected"]

_LOCAL = re.compile(r"local:([1-9]\d{0,3})")
_RETRIES = 2

T = TypeVar("T")


@dataclass(frozen=True)
class _Done:
    """Result of a piece of work, or its error, and the warnings of pcloud."""

    value: Any
    error: Exception | None
    warnings: list[Warning]


class Scheduler:
    """Connection to the processes that work.

    Parameters
    ----------
    client : distributed.Client
        Client of Dask.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def run(
        self, work: Sequence[Callable[[], T]], advance: Advance = ignore_progress
    ) -> Iterator[T]:
        """Results of functions without arguments, which are pickled, in the order in which they end.

        Work of a process that is killed is done again by another one, and work that fails for
        another reason than its input is tried again. If some fails in the end, the rest is done
        before the error is raised.

        Parameters
        ----------
        work : sequence of callable
            The functions.
        advance : callable
            Progress callback.

        Raises
        ------
        InputError, OSError
            As from the functions; the first of them.
        """
        distributed = _distributed()
        futures = [self._client.submit(_call, part, retries=_RETRIES, pure=False) for part in work]
        errors: list[Exception] = []
        for future in distributed.as_completed(futures):
            try:
                done = future.result()
            except Exception as error:  # whatever the work raises, or too many killed processes
                done = _Done(None, error, [])
            for warning in done.warnings:
                warnings.warn(warning, stacklevel=2)
            if done.error is not None:
                errors.append(done.error)
            else:
                yield done.value
            advance(1 / len(futures))
        if errors:
            first = errors[0]
            if isinstance(first, distributed.scheduler.KilledWorker):
                raise InputError(
                    f"{len(errors)} of {len(work)} files are not done: their processes were killed "
                    "several times, perhaps because they need more memory than there is; the same "
                    "command does the missing files"
                ) from first
            raise first


def _call(work: Callable[[], Any]) -> _Done:
    """Do a piece of work; errors of the input are not worth another try."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        value, error = None, None
        try:
            value = work()
        except (InputError, MissingExtraError, FileNotFoundError) as caught:
            error = caught
    ours = [w.message for w in found if w.category.__module__.startswith("pcloud")]
    return _Done(value, error, [w for w in ours if isinstance(w, Warning)])


@contextlib.contextmanager
def connected(address: str) -> Iterator[Scheduler]:
    """Connect to a scheduler of Dask, or start one.

    Parameters
    ----------
    address : str
        Address of a scheduler, such as ``tcp://node01:8786``, or ``local:N`` for N processes of
        this machine.

    Raises
    ------
    MissingExtraError
        If Dask is not installed.
    InputError
        If there is no scheduler at the address.
    """
    distributed = _distributed()
    with contextlib.ExitStack() as stack:
        local = _LOCAL.fullmatch(address)
        if local is None and "://" not in address and ":" not in address:
            raise InputError(
                f"scheduler {address!r} is neither an address, such as tcp://node01:8786, nor "
                "local:N with a number of processes"
            )
        if local is not None:
            cluster = distributed.LocalCluster(
                n_workers=int(local[1]),
                threads_per_worker=1,
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.CRITICAL,
            )
            address = stack.enter_context(cluster).scheduler_address
        try:
            client = stack.enter_context(distributed.Client(address, timeout="20s"))
        except (OSError, ValueError) as error:
            raise InputError(f"there is no scheduler of Dask at {address}") from error
        yield Scheduler(client)


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise MissingExtraError("--scheduler", "dask and distributed", "dask") from error
    return distributed
