"""Training on Lightning: recipes, configuration, checkpoints, runs that can be killed.

The names below are imported on first use: the command line needs the configuration alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "RECIPES": "recipes",
    "Recipe": "recipes",
    "RunFolder": "run_folder",
    "TrainConfig": "config",
    "find_learning_rate": "fit",
    "train": "fit",
}

__all__ = ["RECIPES", "Recipe", "RunFolder", "TrainConfig", "find_learning_rate", "train"]

if TYPE_CHECKING:
    from pcloud.training.config import TrainConfig
    from pcloud.training.fit import find_learning_rate, train
    from pcloud.training.recipes import RECIPES, Recipe
    from pcloud.training.run_folder import RunFolder


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'pcloud.training' has no attribute {name!r}")
    return getattr(importlib.import_module(f"pcloud.training.{_HOME[name]}"), name)
