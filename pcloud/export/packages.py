"""The packages of the extra ``onnx``, which are needed only to export."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
from collections.abc import Iterator
from types import ModuleType

from pcloud.errors import MissingExtraError

__all__ = ["check_packages", "onnx", "onnxruntime", "quiet_exporter"]

_PACKAGES = "onnx, onnxscript and onnxruntime"


def onnx() -> ModuleType:
    """Return the package `onnx`.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    return _package("onnx")


def onnxruntime() -> ModuleType:
    """Return the package `onnxruntime`.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    return _package("onnxruntime")


def check_packages() -> None:
    """Check that everything is there that an export to ONNX needs.

    Raises
    ------
    MissingExtraError
        If a package is not installed.
    """
    for name in ("onnx", "onnxscript", "onnxruntime"):
        _package(name)


def _package(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError("ONNX", _PACKAGES, "onnx") from error


@contextlib.contextmanager
def quiet_exporter() -> Iterator[None]:
    """Context without the messages of PyTorch's exporter, such as that torchvision is absent."""
    logger = logging.getLogger("torch.onnx")
    disabled = logging.root.manager.disable
    level = logger.level
    try:
        logging.disable(logging.WARNING)
        with contextlib.redirect_stderr(io.StringIO()):  # where a graph that failed is printed
            yield
    finally:
        logging.disable(disabled)
        logger.setLevel(level)
