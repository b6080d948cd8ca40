"""Interruption of a run by a signal, between two steps, with its state saved."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

__all__ = ["Interrupted", "StopRequest"]


class Interrupted(Exception):
    """The run was interrupted; it can be continued."""


class StopRequest:
    """Context that is true once the process has received Ctrl-C or SIGTERM.

    A second signal stops the run at once; it then continues from its last checkpoint. Outside the
    main thread, where Python does not deliver signals, it is always false.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def __bool__(self) -> bool:
        return self.signal is not None

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self:
            raise Interrupted
        self.signal = number
