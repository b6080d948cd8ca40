"""Treatment of freed memory by the C allocator (glibc malloc)."""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["keep_memory"]

_TRIM_THRESHOLD = -1  # number of the parameter in malloc.h of the GNU C library
_MMAP_MAX = -4
_ENVIRONMENT_PREFIXES = ("MALLOC_", "GLIBC_TUNABLES")  # of variables that set such parameters


def keep_memory() -> bool:
    """Retain freed memory in the process for the next tensors, instead of returning it to the system.

    On Linux, the memory of every large tensor is returned to the system when it is freed. For the
    next tensor, the kernel maps and zeroes new pages, which takes 15 to 25 % of a training step on a
    CPU. After a call of this function, the process does not shrink below its largest size. The
    commands of ``pcloud`` call it; a script should call it before it creates tensors. It has no
    effect if the C library is not that of GNU, or if an environment variable (``MALLOC_...``,
    ``GLIBC_TUNABLES``) sets parameters of the allocator.

    Returns
    -------
    bool
        True if memory is retained.
    """
    if sys.platform != "linux" or any(
        name.startswith(_ENVIRONMENT_PREFIXES) for name in os.environ
    ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return bool(mallopt and mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, -1))
