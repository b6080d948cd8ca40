"""What the C library does with memory that tensors have left."""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["keep_memory"]

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # names of parameters in malloc.h of the GNU C library
_BY_THE_USER = ("MALLOC_", "GLIBC_TUNABLES")  # how the environment sets them


def keep_memory() -> bool:
    """Keep freed memory in the process for the next tensors, instead of giving it back.

    On Linux the memory of every large tensor goes back when it is freed, and the kernel maps and
    zeroes its pages anew for the next: a seventh to a quarter of a training step on a CPU. With
    this the process stays as large as it was at most. The commands of ``pcloud`` call it; a script
    does so before its first tensors. Nothing happens where the C library is not that of GNU, and
    where the environment sets its own parameters (``MALLOC_...``, ``GLIBC_TUNABLES``).

    Returns
    -------
    bool
        Whether memory is kept now.
    """
    if sys.platform != "linux" or any(name.startswith(_BY_THE_USER) for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return bool(mallopt and mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, -1))
