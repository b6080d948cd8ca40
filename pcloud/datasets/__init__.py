"""Public samples of jets by name, and a small sample that is part of the package.

Each module of this package with a constant ``INFO`` describes a sample. A sample of your own is a
:class:`DatasetInfo` given to :func:`register_dataset`, in a script, or in a package that names its
module as an entry point of the group ``pcloud.datasets``.
"""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

from pcloud.datasets import simulated
from pcloud.datasets.downloads import ROOT_VARIABLE, advice, data_root, download
from pcloud.datasets.info import DatasetInfo, Download, Split
from pcloud.errors import InputError, UnknownNameError
from pcloud.io import read_jets
from pcloud.plugins import load_plugins

__all__ = [
    "DatasetInfo",
    "Download",
    "Split",
    "dataset_files",
    "dataset_info",
    "download",
    "is_dataset",
    "list_datasets",
    "load_dataset",
    "register_dataset",
]


def list_datasets() -> list[str]:
    """Names of the samples, sorted.

    Examples
    --------
    >>> "landscape" in list_datasets()
    True
    """
    return sorted(_registry())


def dataset_info(name: str) -> DatasetInfo:
    """Description of a sample: files, classes, schema, source and reference.

    Raises
    ------
    UnknownNameError
        If there is no sample of this name.

    Examples
    --------
    >>> dataset_info("simulated").classes
    ('qcd', 'top')
    """
    if name not in _registry():
        raise UnknownNameError("data set", name, _registry())
    return _registry()[name]


def dataset_files(
    name: str, split: str = "train", root: str | os.PathLike[str] | None = None
) -> list[Path]:
    """Files of a sample, for `pcloud.iter_jets` or `pcloud.io.convert`.

    Parameters
    ----------
    name : str
        Name of the sample, see `list_datasets`.
    split : str
        Name of the split: ``"train"``, ``"val"`` or ``"test"``.
    root : str or Path, optional
        Folder of the samples; the default is the environment variable ``PCLOUD_DATA``, or the folder
        into which `pcloud.download` writes without it.

    Returns
    -------
    list of Path
        Files in the order of the sample.

    Raises
    ------
    FileNotFoundError
        If files are missing; the message says where to get them and where to put them.
    UnknownNameError
        If there is no such sample or split.
    InputError
        If `root` is not known, or if the sample is part of the package and has no files.
    """
    info = dataset_info(name)
    info.split(split)
    folder = data_root(root)
    is_named = root or os.environ.get(ROOT_VARIABLE)
    if not is_named and info.load is None and not folder.is_dir():
        raise InputError(
            f"the folder of data set {name!r} is not known: set {ROOT_VARIABLE}, or pass root "
            f"(data from {info.url})" + advice(name)
        )
    try:
        return info.files(split, folder)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}{advice(name, split)}") from None


def load_dataset(
    name: str,
    split: str = "train",
    root: str | os.PathLike[str] | None = None,
    *,
    start: int = 0,
    stop: int | None = None,
    **options: Any,
) -> Any:
    """Jets of a sample, or events of a table, or records.

    Parameters
    ----------
    name, split, root
        As for `dataset_files`; by default the training split. ``"simulated"`` is part of the package and needs no `root`.
    start, stop : int
        Range of jets; the default is all jets.
    **options
        Options of a sample that is computed, such as `n`, `noise` and `seed` of
        ``"moons"``; see :mod:`pcloud.tables.toys` and :func:`pcloud.series.simulate_pulses`.

    Returns
    -------
    awkward.Array, Table or Series
        Jets as from `pcloud.read_jets`; events of tables and records of their own kind.

    Raises
    ------
    FileNotFoundError, UnknownNameError, InputError
        As from `dataset_files` and `pcloud.read_jets`.

    Examples
    --------
    >>> jets = load_dataset("simulated", "test")
    >>> len(jets), jets.fields
    (10000, ['p4', 'label'])
    >>> jets.attrs["classes"]
    ['qcd', 'top']
    """
    info = dataset_info(name)
    info.split(split)
    if info.load is None and options:
        raise UnknownNameError("option of a data set in files", next(iter(options)), ())
    if info.load is not None:
        jets = _computed(info, split, options)[start:stop]
        if "classes" not in jets.attrs and info.classes:
            jets.attrs["classes"] = list(info.classes)
        return jets
    return read_jets(dataset_files(name, split, root), info.schema, start=start, stop=stop)


def _computed(info: DatasetInfo, split: str, options: dict[str, Any]) -> Any:
    """Sample of a function, whose options are checked."""
    assert info.load is not None
    try:
        return info.load(split, **options)
    except TypeError as error:
        if not options or "argument" not in str(error):
            raise
        raise InputError(f"data set {info.name!r}: {error}") from error


def is_dataset(source: Any, kind: str) -> bool:
    """Return whether a source is the name of a data set of a kind, and not a file.

    Raises
    ------
    UnknownNameError
        If it is neither the name of a data set nor a path.
    InputError
        If it is the name of a data set of another kind.

    Examples
    --------
    >>> is_dataset("simulated", "cloud"), is_dataset("jets.h5", "cloud")
    (True, False)
    """
    if not isinstance(source, str):
        return False
    if source in list_datasets():
        if (found := dataset_info(source).kind) != kind:
            raise InputError(f"data set {source!r} is of kind {found}, the network takes {kind}")
        return True
    if any(c in source for c in "/\\.*?[") or Path(source).exists():
        return False
    names = [name for name in list_datasets() if dataset_info(name).kind == kind]
    raise UnknownNameError("data set or file", source, names)


_REGISTERED: dict[str, DatasetInfo] = {}


def register_dataset(info: DatasetInfo) -> DatasetInfo:
    """Make a sample known by its name, to `load_dataset` and to the command line.

    Parameters
    ----------
    info : DatasetInfo
        Files or a function that makes the jets, classes and splits.

    Returns
    -------
    DatasetInfo
        The same.

    Raises
    ------
    ValueError
        If the name is taken by another sample.
    """
    if (_ours() | _REGISTERED).get(info.name, info) != info:
        raise ValueError(f"a data set named {info.name!r} exists already")
    _REGISTERED[info.name] = info
    return info


def _registry() -> dict[str, DatasetInfo]:
    load_plugins("pcloud.datasets")
    return _ours() | _REGISTERED


@cache
def _ours() -> dict[str, DatasetInfo]:
    modules = (import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__))
    infos = [info for module in modules for info in _infos_of(module)]
    return {info.name: info for info in (_embedded(), *infos)}


def _infos_of(module: ModuleType) -> list[DatasetInfo]:
    return [module.INFO] if hasattr(module, "INFO") else list(getattr(module, "INFOS", ()))


def _embedded() -> DatasetInfo:
    return DatasetInfo(
        name="simulated",
        description="Top and QCD jets by the recipe of the Landscape sample, in the package",
        splits={name: Split((f"{name}.parquet",)) for name in simulated.SPLITS},
        classes=simulated.CLASSES,
        load=simulated.load,
    )
