"""Plug-ins: installed packages that add models, data sets or studies by entry points."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points
from typing import Any

__all__ = ["PluginWarning", "is_same_function", "load_plugins"]


class PluginWarning(UserWarning):
    """A plug-in that cannot be imported; the message names its package and the reason."""


def is_same_function(first: Callable[..., Any], second: Callable[..., Any]) -> bool:
    """Return True for one function, perhaps of a file or notebook cell that was executed again."""
    places = {(f.__code__.co_filename, f.__qualname__) for f in (first, second)}
    return len(places) == 1


@cache
def load_plugins(group: str) -> dict[str, Any]:
    """Import the plug-ins of an entry-point group, once.

    A package declares a plug-in in its ``pyproject.toml``::

        [project.entry-points."pcloud.models"]
        my_models = "my_package.models"

    Importing the module registers what it defines, such as models by
    :func:`~pcloud.models.register_model`. A plug-in that raises an exception is left out with a
    :class:`PluginWarning`.

    Parameters
    ----------
    group : str
        Name of the group: ``"pcloud.models"``, ``"pcloud.datasets"`` or ``"pcloud.studies"``.

    Returns
    -------
    dict of str to object
        Name of each entry point, and the module or object that it refers to.
    """
    plugins = {}
    for entry in entry_points(group=group):
        try:
            plugins[entry.name] = entry.load()
        except Exception as error:
            package = entry.dist.name if entry.dist else entry.value
            warnings.warn(
                f"plug-in {entry.name!r} of {package} cannot be imported: {error!r}",
                PluginWarning,
                stacklevel=2,
            )
    return plugins
