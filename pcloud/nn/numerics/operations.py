"""Counting of operations by the definition of a function, independent of the kernel that runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar

__all__ = ["OperationCounter", "counted", "counting"]

Function = TypeVar("Function", bound=Callable[..., Any])


class OperationCounter:
    """Counter of operations, which is paused inside functions that are counted as a whole.

    Attributes
    ----------
    total : int
        Number of operations so far.
    paused : bool
        True inside a function that has already been counted.
    """

    def __init__(self) -> None:
        self.total = 0
        self.paused = False

    def add(self, operations: int) -> None:
        """Add `operations`, unless paused."""
        if not self.paused:
            self.total += operations

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Context in which :meth:`add` has no effect."""
        before = self.paused
        self.paused = True
        try:
            yield
        finally:
            self.paused = before


_ACTIVE: list[OperationCounter] = []  # empty unless operations are being counted


@contextmanager
def counting() -> Iterator[OperationCounter]:
    """Context that counts the operations of functions decorated with :func:`counted`."""
    counter = OperationCounter()
    _ACTIVE.append(counter)
    try:
        yield counter
    finally:
        _ACTIVE.remove(counter)


def counted(operations: Callable[..., int]) -> Callable[[Function], Function]:
    """Decorator for a function whose number of operations is ``operations(*args, **kwargs)``.

    For functions with several kernels, of which one is chosen by the device or the processor.
    """

    def decorate(function: Function) -> Function:
        @wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if not _ACTIVE:
                return function(*args, **kwargs)
            counter = _ACTIVE[-1]
            counter.add(operations(*args, **kwargs))
            with counter.pause():
                return function(*args, **kwargs)

        return wrapper  # type: ignore[return-value]

    return decorate
