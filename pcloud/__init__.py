"""Graph neural networks for particle clouds: ragged from file to loss, every number with an error.

The names below are imported on first use, so that ``import pcloud`` and the command line answer at
once.
"""

from __future__ import annotations

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING

__version__ = "0.1.0"

_PACKAGES = (
    "batch",
    "datasets",
    "errors",
    "evaluation",
    "features",
    "images",
    "interpret",
    "io",
    "kinematics",
    "models",
    "nn",
    "observables",
    "particle_types",
    "report",
    "simulate",
    "studies",
    "training",
    "uncertainty",
)
_HOME = {
    "FeatureSet": "features",
    "JetDataset": "batch",
    "JetLoader": "batch",
    "JetSchema": "io",
    "Run": "run",
    "build_model": "models",
    "download": "datasets",
    "evaluate": "evaluation",
    "feature_set": "features",
    "iter_jets": "io",
    "keep_memory": "memory",
    "list_datasets": "datasets",
    "list_models": "models",
    "load_dataset": "datasets",
    "load_official": "models",
    "read_jets": "io",
    "register_dataset": "datasets",
    "register_feature": "features",
    "register_metric": "evaluation",
    "register_model": "models",
    "train": "training",
    "write_jets": "io",
}

__all__ = [
    "FeatureSet",
    "JetDataset",
    "JetLoader",
    "JetSchema",
    "Run",
    "__version__",
    "build_model",
    "download",
    "evaluate",
    "feature_set",
    "iter_jets",
    "keep_memory",
    "list_datasets",
    "list_models",
    "load_dataset",
    "load_official",
    "read_jets",
    "register_dataset",
    "register_feature",
    "register_metric",
    "register_model",
    "train",
    "write_jets",
]

if _TYPE_CHECKING:
    from pcloud.batch import JetDataset, JetLoader
    from pcloud.datasets import download, list_datasets, load_dataset, register_dataset
    from pcloud.evaluation import evaluate, register_metric
    from pcloud.features import FeatureSet, feature_set, register_feature
    from pcloud.io import JetSchema, iter_jets, read_jets, write_jets
    from pcloud.memory import keep_memory
    from pcloud.models import build_model, list_models, load_official, register_model
    from pcloud.run import Run
    from pcloud.training import train


def __getattr__(name: str) -> object:
    if name in _PACKAGES:
        return _import_module(f"pcloud.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'pcloud' has no attribute {name!r}")
    value = getattr(_import_module(f"pcloud.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *_PACKAGES, "__doc__", "__file__", "__path__", "__version__"})
