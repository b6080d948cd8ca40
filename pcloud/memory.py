"""Memory of the machine that is free, and treatment of freed memory by the C allocator (glibc)."""

from __future__ import annotations

import ctypes
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

from pcloud.errors import InputError

__all__ = ["LowMemoryWarning", "check_memory", "free_memory", "keep_memory", "reuse_memory"]

#: Environment variable that switches the check of the free memory off if it is 0.
CHECK_VARIABLE = "PCLOUD_CHECK_MEMORY"

#: Ratio of needed to free memory above which nothing is read: the estimate is good to 20 %.
_REFUSED_RATIO = 1.25

_MEMINFO = Path("/proc/meminfo")
_CGROUP_OF_PROCESS = Path("/proc/self/cgroup")
_CGROUPS = Path("/sys/fs/cgroup")

_TRIM_THRESHOLD = -1  # numbers of the parameters in malloc.h of the GNU C library
_MMAP_THRESHOLD = -3
_MMAP_MAX = -4
_LARGEST_REUSED = 2**25  # bytes: the largest threshold that the library takes
_HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"  # of PyTorch, read at its first tensor of 2 MiB
_ENVIRONMENT_PREFIXES = ("MALLOC_", "GLIBC_TUNABLES")  # of variables that set such parameters


def keep_memory() -> bool:
    """Retain freed memory in the process for the next tensors, instead of returning it to the system.

    On Linux, the memory of every large tensor is returned to the system when it is freed. For the
    next tensor, the kernel maps and zeroes new pages, which takes 15 to 25 % of a training step on a
    CPU. After a call of this function, the process does not shrink below its largest size, which
    can itself be larger: retained memory falls into pieces. A script should call it before it
    creates tensors. It has no effect if the C library is not that of GNU, or if an environment
    variable (``MALLOC_...``, ``GLIBC_TUNABLES``) sets parameters of the allocator. Without it,
    pcloud does what needs no more memory, see :func:`reuse_memory`.

    Returns
    -------
    bool
        True if memory is retained.
    """
    kept = _set_parameters({_MMAP_MAX: 0, _TRIM_THRESHOLD: -1})
    if kept:
        _REUSE.append(True)  # and nothing less
    return kept


_REUSE: list[bool] = []  # result of the first call of `reuse_memory`


def reuse_memory() -> bool:
    """Retain freed memory of tensors up to 32 MiB, and take larger ones in huge pages.

    The loaders call it before their first batch and the commands before they begin; an import
    changes nothing. The peak of the memory is that of Python programs that set nothing: larger
    tensors, whose memory would fall into pieces, are still returned to the system, in pages of 2 MiB
    where it has them (``madvise``), of which it needs few. It acts once, and has no effect after
    :func:`keep_memory` and where that has none.

    Returns
    -------
    bool
        True if memory is retained.
    """
    if not _REUSE:
        reused = _set_parameters({_MMAP_THRESHOLD: _LARGEST_REUSED, _TRIM_THRESHOLD: -1})
        if reused:
            os.environ.setdefault(_HUGE_PAGES, "1")
        _REUSE.append(reused)
    return _REUSE[0]


def _set_parameters(values: dict[int, int]) -> bool:
    """Set parameters of the allocator; False if it has none, or the environment sets them."""
    if sys.platform != "linux" or any(
        name.startswith(_ENVIRONMENT_PREFIXES) for name in os.environ
    ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return bool(mallopt and all(mallopt(name, value) for name, value in values.items()))


class LowMemoryWarning(UserWarning):
    """Warning that jets need about as much memory as is free."""


def check_memory(need: float, what: str) -> None:
    """Check that there is memory for jets that are to be read.

    Otherwise the machine would swap, or the system would end the process. The environment variable
    ``PCLOUD_CHECK_MEMORY=0`` switches the check off.

    Parameters
    ----------
    need : float
        Memory that the jets need, in bytes.
    what : str
        Name and number of the jets, for the message.

    Raises
    ------
    InputError
        If more than 1.25 times the free memory is needed.

    Warns
    -----
    LowMemoryWarning
        If more than the free memory is needed.
    """
    free = None if os.environ.get(CHECK_VARIABLE) == "0" else free_memory()
    if free is None or need <= free:
        return
    numbers = f"{what} need about {need / 1e9:.3g} GB of memory, and {free / 1e9:.3g} GB are free"
    if need <= _REFUSED_RATIO * free:
        warnings.warn(numbers, LowMemoryWarning, stacklevel=2)
        return
    raise InputError(
        f"{numbers}: read fewer jets (--max-jets N, stop=N), fewer columns (columns=...) or one chunk "
        f"after the other (pcloud.iter_jets); {CHECK_VARIABLE}=0 reads them anyway"
    )


def free_memory() -> int | None:
    """Memory that this process can still take without swapping, in bytes.

    This is the least of what the system has available, of what its control groups leave (the limit
    of a container or batch job), and of the limit ``ulimit -v``.

    Returns
    -------
    int or None
        None if the system does not say, as on macOS and Windows.
    """
    if sys.platform != "linux":
        return None
    return min((max(0, free) for free in _free_by_limit()), default=None)


def _free_by_limit() -> Iterator[int]:
    """Memory that each limit leaves, in bytes; numbers that cannot be read are left out."""
    import resource

    available = _numbers(_MEMINFO).get("MemAvailable:")
    if available is not None:
        yield 1024 * available
    for folder, names in _control_groups():
        limit, usage = (_number(folder / name) for name in names[:2])
        if limit is not None and usage is not None:
            # The kernel drops cached pages of files when memory is short.
            yield limit - usage + _numbers(folder / "memory.stat").get(names[2], 0)
    address_space = resource.getrlimit(resource.RLIMIT_AS)[0]
    if address_space != resource.RLIM_INFINITY:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        yield address_space - pages * resource.getpagesize()


def _control_groups() -> Iterator[tuple[Path, tuple[str, str, str]]]:
    """Folders of the control groups of this process, with the names of limit, usage and cache."""
    try:
        lines = _CGROUP_OF_PROCESS.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        root, names = _CGROUPS, ("memory.max", "memory.current", "inactive_file")
        if controllers:
            root = _CGROUPS / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        if controllers in ("", "memory"):
            folder = root / name.lstrip("/")
            yield from (
                (parent, names)
                for parent in (folder, *folder.parents)
                if root in (parent, *parent.parents)
            )


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # "max": no limit
        return None


def _numbers(path: Path) -> dict[str, int]:
    """Numbers of a file with a name and a number in each line."""
    try:
        rows = [line.split() for line in path.read_text().splitlines()]
        return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}
    except OSError:
        return {}
