"""Registry of the studies, those of other packages included."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from pcloud.errors import UnknownNameError
from pcloud.plugins import PluginWarning, load_plugins

if TYPE_CHECKING:
    from pcloud.training.run_folder import RunFolder

__all__ = ["GROUP", "Study", "find_study", "further_studies", "list_studies"]

GROUP = "pcloud.studies"
"""Group of the entry points with which other packages register studies."""

_STUDIES = {
    "evaluate": "evaluate:evaluate_run",
    "predict": "predict:predict_file",
    "calibrate": "calibrate:calibrate_run",
    "uncertainty": "uncertainty:measure_uncertainty",
    "robustness": "robustness:robustness_run",
    "attribution": "attribution:attribute_run",
    "taylor": "taylor:taylor_run",
    "anomaly": "anomaly:anomaly_run",
    "generation": "generation:evaluate_generator",
}


class Study(Protocol):
    """Study of another package, registered by an entry point of the group ``pcloud.studies``.

    Besides `run` it may have ``section(contents, figures) -> Section``, its section of the report.
    See :class:`pcloud.report.contents.RunContents` and :class:`pcloud.run_files.StoredResult`.
    """

    def run(self, run: RunFolder, **options: Any) -> Any:
        """Do the study on a run; return its result."""


def list_studies() -> list[str]:
    """Names of all studies.

    Examples
    --------
    >>> "evaluate" in list_studies()
    True
    """
    return [*_STUDIES, *further_studies()]


def find_study(name: str) -> Callable[..., Any]:
    """Function ``study(run, **options)`` of a study by its name.

    Raises
    ------
    UnknownNameError
        If there is no such study.
    """
    if name in _STUDIES:
        module, function = _STUDIES[name].split(":")
        return getattr(importlib.import_module(f"pcloud.studies.{module}"), function)
    further = further_studies()
    if name not in further:
        raise UnknownNameError("study", name, list_studies())
    return further[name].run


@cache
def further_studies() -> dict[str, Study]:
    """Studies of other packages by name; a warning for a name that is one of ours."""
    studies = dict(load_plugins(GROUP))
    for name in studies.keys() & _STUDIES.keys():
        warnings.warn(f"plug-in {name!r}: a study of this name exists", PluginWarning, stacklevel=2)
        del studies[name]
    return studies
