"""Numbers of operations that follow from a definition, not from the kernel that computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar

__all__ = ["OperationCounter", "counted", "counting"]

Function = TypeVar("Function", bound=Callable[..., Any])


class OperationCounter:
    """Sum of operations, which can be paused inside functions that state their own.

    Attributes
    ----------
    total : int
        Operations so far.
    paused : bool
        Whether operations are those of a function that has been counted as a whole.
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
        """Add nothing inside."""
        before = self.paused
        self.paused = True
        try:
            yield
        finally:
            self.paused = before


_ACTIVE: list[OperationCounter] = []  # empty unless operations are being counted


@contextmanager
def counting() -> Iterator[OperationCounter]:
    """Count the operations of functions decorated with :func:`counted`."""
    counter = OperationCounter()
    _ACTIVE.append(counter)
    try:
        yield counter
    finally:
        _ACTIVE.remove(counter)


def counted(operations: Callable[..., int]) -> Callable[[Function], Function]:
    """Decorator of a function whose number of operations is ``operations(*args, **kwargs)``.

    For functions that have several kernels, of which the device or the processor decides.
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
