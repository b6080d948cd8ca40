"""Search space of hyperparameters: a YAML file of options of a training with ranges or choices."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Interval, Len

from pcloud.errors import InputError, UnknownNameError
from pcloud.training.config import STAGES
from pcloud.validation import checked, hints
from pcloud.yaml_files import read_yaml

__all__ = ["Choices", "Range", "SearchSpace"]

_MAX_GRID = 10**6  # points of a grid
_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")
_NOT_TUNED = (
    *("data", "val", "test", "data_root", "schema", "labels", "out", "seed", "split", "split_seed"),
    *("fold", "val_fraction", "test_fraction", "max_val_jets", "monitor", "overfit", "ensemble"),
    *("workers", "accelerator", "devices", "checkpoint_steps", "checkpoint_seconds"),
    *("keep_checkpoints", "layer_norms", "memory_limit", "loss", "objective", "class_weights"),
)
"""Options that do not belong to a network or change what its metric means."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """Numbers between two ends.

    Attributes
    ----------
    low, high : int or float
        Ends; if both are written as whole numbers, the values are whole numbers, too.
    log : bool
        Draw the logarithm uniformly.
    points : int
        Number of values of the sampler ``grid``.
    """

    low: int | float
    high: int | float
    log: bool = False
    points: Annotated[int, Interval(ge=2, le=1000)] = 5

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf:
            raise InputError(f"low must be below high, got {self.low:g} and {self.high:g}")
        if self.log and self.low <= 0:
            raise InputError(f"log needs a positive low, got {self.low:g}")

    @property
    def is_whole(self) -> bool:
        """True if the values are whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def ends(self) -> list[Any]:
        """Smallest and largest value."""
        return [self.low, self.high]

    def grid(self) -> list[Any]:
        """Values of the grid."""
        spaced = np.geomspace if self.log else np.linspace
        values = spaced(self.low, self.high, self.points).tolist()
        if self.is_whole:
            return sorted({round(value) for value in values})
        return [self.low, *values[1:-1], self.high]

    def suggest(self, trial: Any, name: str) -> Any:
        """Value that a trial of optuna suggests."""
        if self.is_whole:
            return trial.suggest_int(name, self.low, self.high, log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def stored(self, value: Any) -> Any:
        """Value as optuna stores it."""
        return value


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Values without an order.

    Attributes
    ----------
    choices : list
        The values: numbers, words, lists or mappings.
    """

    choices: Annotated[list[Any], Len(1, 1000)]

    @property
    def ends(self) -> list[Any]:
        """All values."""
        return self.choices

    def grid(self) -> list[Any]:
        """All values."""
        return self.choices

    def suggest(self, trial: Any, name: str) -> Any:
        """Value that a trial of optuna suggests; optuna stores it as JSON."""
        texts = [self.stored(value) for value in self.choices]
        return json.loads(trial.suggest_categorical(name, texts))

    def stored(self, value: Any) -> Any:
        """Value as optuna stores it."""
        return json.dumps(value)


Parameter = Range | Choices


@dataclass(frozen=True)
class SearchSpace:
    """Options to tune, by name.

    A file has a line for each, such as::

        lr: {low: 1e-4, high: 1e-1, log: true}
        batch_size: {choices: [32, 128]}
        model_options.dropout: {low: 0.0, high: 0.5}

    Parameters
    ----------
    parameters : dict of str to Range or Choices
        Parameters by the name of the option; ``model_options.dropout`` is one option of the model.
    """

    parameters: dict[str, Parameter] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.parameters:
            raise InputError("a search space needs at least one option")
        known = [n for stage in STAGES.values() for n in hints(stage) if n not in _NOT_TUNED]
        for name in self.parameters:
            option = name.partition(".")[0]
            if option in _NOT_TUNED:
                raise InputError(f"{name} cannot be tuned: it changes what is compared")
            if option not in known:
                raise UnknownNameError("option to tune", name, known)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SearchSpace:
        """Make a space from plain values, as from YAML, which are checked.

        Raises
        ------
        InputError
            If a value has neither a range nor choices; `UnknownNameError` for an option that does not
            exist.
        """
        return cls({str(name): _parameter(str(name), value) for name, value in values.items()})

    @classmethod
    def from_file(cls, path: str | Path) -> SearchSpace:
        """Read a space from a YAML file of plain values; nothing in it is executed."""
        try:
            return cls.from_dict(read_yaml(path))
        except UnknownNameError:
            raise
        except InputError as error:
            text = str(error)
            raise InputError(text if text.startswith(str(path)) else f"{path}: {text}") from None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {name: vars(parameter) for name, parameter in self.parameters.items()}

    def suggest(self, trial: Any) -> dict[str, Any]:
        """Values by option that a trial of optuna suggests."""
        return {name: part.suggest(trial, name) for name, part in self.parameters.items()}

    def stored(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values as optuna stores them."""
        return {name: part.stored(values[name]) for name, part in self.parameters.items()}

    def grid(self, seed: int = 0) -> list[dict[str, Any]]:
        """All combinations of the values of the grid, in random order.

        Raises
        ------
        InputError
            If there are more than a million.
        """
        values = [part.grid() for part in self.parameters.values()]
        number = math.prod(map(len, values))
        if number > _MAX_GRID:
            raise InputError(f"the grid has {number:,} points: fewer values, or another sampler")
        points = [
            dict(zip(self.parameters, point, strict=True)) for point in itertools.product(*values)
        ]
        order = np.random.default_rng(seed).permutation(len(points))
        return [points[i] for i in order]

    def examples(self) -> Iterator[dict[str, Any]]:
        """Combinations in which each end of a range and each choice occurs."""
        ends = [part.ends for part in self.parameters.values()]
        for i in range(max(map(len, ends))):
            point = [values[min(i, len(values) - 1)] for values in ends]
            yield dict(zip(self.parameters, point, strict=True))


def _parameter(name: str, value: Any) -> Parameter:
    if not isinstance(value, Mapping):
        raise InputError(
            f"{name} must be {{low: ..., high: ...}} or {{choices: [...]}}, got {value!r}"
        )
    numbers = {key: _number(entry) for key, entry in value.items()}
    kind = Choices if "choices" in value else Range
    unknown = [str(key) for key in value if key not in kind.__dataclass_fields__]
    if unknown:
        raise UnknownNameError(f"setting of {name}", unknown[0], kind.__dataclass_fields__)
    return checked(kind, numbers, name)


def _number(value: Any) -> Any:
    """Value with the numbers that YAML takes for texts, such as 1e-3."""
    if isinstance(value, list):
        return [_number(entry) for entry in value]
    if isinstance(value, str) and _EXPONENT.fullmatch(value):
        return float(value)
    return value
