"""Errors caused by the input of a user, with messages that say what to do.

The command line prints these errors in one line and exits with code 2. Any other exception is a bug
of this package and is shown with its traceback.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from typing import Any


class InputError(ValueError):
    """Error in the input of the user; the message says what is wrong and what to do.

    Examples
    --------
    >>> try:
    ...     pcloud.build_model("part_icle", 7)
    ... except InputError as error:
    ...     print(str(error)[:40])
    no model named 'part_icle'; did you mean
    """

    def __reduce__(self) -> tuple[Any, ...]:
        """From a worker process, only class and message come back."""
        return _with_message, (type(self), str(self))


class UnknownNameError(InputError, KeyError):
    """Error for a name that does not exist; the message suggests the most similar known name.

    Parameters
    ----------
    kind : str
        Kind of object, such as ``"model"`` or ``"branch"``.
    name : str
        Name that does not exist.
    known : iterable of str
        Names that exist.
    where : str, optional
        Place of the known names, such as a file name.

    Examples
    --------
    >>> print(UnknownNameError("model", "deepsets", ["deep_sets", "part"]))
    no model named 'deepsets'; did you mean 'deep_sets'?
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], where: str = "") -> None:
        known = sorted(set(known) - {name})
        place = f" in {where}" if where else ""
        if near := nearest(name, known):
            hint = f"did you mean {near!r}?"
        elif len(known) > 12:
            hint = f"there are {len(known)}: {', '.join(known[:12])}, ..."
        else:
            hint = f"known: {', '.join(known) or 'none'}"
        self.message = f"no {kind} named {name!r}{place}; {hint}"
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message  # KeyError would print the repr


def _with_message(kind: type[Exception], message: str) -> Exception:
    error = kind.__new__(kind, message)
    error.__dict__["message"] = message
    error.args = (message,)
    return error


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most similar to `name`, or None where none is similar.

    Examples
    --------
    >>> nearest("deepsets", ["deep_sets", "pfn"])
    'deep_sets'
    """
    folded = {other.lower(): other for other in known}  # 'gev' is 'GeV' rather than 'eV'
    near = difflib.get_close_matches(name.lower(), folded, n=1)
    return folded[near[0]] if near else None


class MissingExtraError(ImportError):
    """Error for an optional dependency that is not installed; the message has the pip command.

    Examples
    --------
    >>> print(MissingExtraError("simulating jets", "pythia8mc and fastjet", "sim"))
    simulating jets needs pythia8mc and fastjet: pip install 'pcloud-hep[sim]'
    """

    def __init__(self, doing: str, packages: str, extra: str) -> None:
        super().__init__(f"{doing} needs {packages}: pip install 'pcloud-hep[{extra}]'")

    def __reduce__(self) -> tuple[Any, ...]:
        """From a worker process, only class and message come back."""
        return _with_message, (type(self), str(self))


class MissingPackageError(MissingExtraError):
    """Error for a package that is part of no extra and is not installed.

    Examples
    --------
    >>> print(MissingPackageError("scoring in Triton", "tritonclient"))
    scoring in Triton needs tritonclient: pip install tritonclient
    """

    def __init__(self, doing: str, package: str) -> None:
        install = "" if " " in package else f": pip install {package}"
        ImportError.__init__(self, f"{doing} needs {package}{install}")


class OldNameWarning(DeprecationWarning):
    """Something is used under a name that it had in an earlier version."""


class UnreadableFileWarning(UserWarning):
    """A file that cannot be read and is left out; the message says what to do about it."""


class CannotWriteError(InputError, OSError):
    """Error for a file or folder that cannot be written; the message says why.

    Parameters
    ----------
    path : path
        File or folder.
    reason : str
        Reason given by the system, such as ``"No space left on device"``.
    remedy : str
        Advice, such as an option that writes elsewhere.

    Examples
    --------
    >>> print(CannotWriteError("scores.parquet", "the disk is full"))
    cannot write scores.parquet: the disk is full
    """

    def __init__(self, path: object, reason: str, remedy: str = "") -> None:
        self.causes = (str(path), reason, remedy)
        self.message = f"cannot write {path}: {reason}{'; ' if remedy else ''}{remedy}"
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        """From a worker process, the arguments come back."""
        return type(self), self.causes


def is_out_of_memory(error: BaseException) -> bool:
    """Return True for an error of an allocator, of Python, numpy, Arrow, torch or CUDA.

    Examples
    --------
    >>> is_out_of_memory(MemoryError()), is_out_of_memory(ValueError())
    (True, False)
    """
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY)


_OUT_OF_MEMORY = (
    "DefaultCPUAllocator:",  # not enough memory
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "bad_alloc",
)
"""Parts of messages of torch, whose errors of the CPU allocator are of no class of their own."""
