"""Old names of options and weights, so that earlier scripts and runs keep working.

In the first versions the number of outputs was called ``num_classes``, every model had its own names
for the widths of its layers, and the last map of a network had a number or was called ``classify``.
`OPTIONS` and `WEIGHTS` map these names to the present ones. They are accepted until version 1.0.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import nn

from pcloud.errors import OldNameWarning

__all__ = ["OPTIONS", "WEIGHTS", "accept_old_names", "current_options", "renamed_keyword"]

Factory = TypeVar("Factory", bound=Callable[..., Any])
Rename = str | Callable[[Any], dict[str, Any]]
"""New name of an option; or a function from the old value to new names and values."""


def _head_width(width: int) -> dict[str, Any]:
    return {"head_widths": [width]}


def _edge_blocks(blocks: Any) -> dict[str, Any]:
    neighbors = [k for k, _ in blocks]
    same = len(set(neighbors)) == 1
    return {"k": neighbors[0] if same else neighbors, "widths": [list(w) for _, w in blocks]}


_OUTPUTS: dict[str, Rename] = {"num_classes": "num_outputs"}
_PFN: dict[str, Rename] = {"phi": "phi_widths", "f": "head_widths"}
_PART: dict[str, Rename] = {
    "embed": "embed_widths",
    "pair_embed": "pair_widths",
    "heads": "num_heads",
    "layers": "num_layers",
    "class_layers": "num_class_layers",
    "hidden": "head_widths",
}
_PARTICLENET: dict[str, Rename] = {"blocks": _edge_blocks, "hidden": _head_width}
_CNN: dict[str, Rename] = {"channels": "widths", "hidden": "head_widths"}
_RESNET: dict[str, Rename] = {"blocks": "num_blocks", "inner": "inner_width"}

OPTIONS: dict[str, dict[str, Rename]] = {
    "cnn": _CNN,
    "dense": {"hidden": "width"},
    "dgcnn": {"channels": "widths", "embedding": "embed_width", "hidden": "head_widths"},
    "efn": _PFN,
    "group_cnn": _CNN,
    "group_resnet34": _RESNET,
    "hl_logistic": {"hidden": "widths"},
    "hl_mlp": {"hidden": "widths"},
    "image_resnext": _RESNET,
    "lgatr": {
        "blocks": "num_layers",
        "multivectors": "multivector_width",
        "scalar_channels": "scalar_width",
        "heads": "num_heads",
    },
    "lgatr_slim": {
        "blocks": "num_layers",
        "vectors": "vector_width",
        "scalar_channels": "scalar_width",
        "heads": "num_heads",
    },
    "lorentznet": {"blocks": "num_layers", "hidden": "width"},
    "p4cnn": {"channels": "width"},
    "part": _PART,
    "particlenet": _PARTICLENET,
    "particlenet_lite": _PARTICLENET,
    "pcnn": {"channels": "width", "stages": "stage_widths", "hidden": _head_width},
    "pelican": {"blocks": "num_layers", "hidden": "width", "messages": "message_width"},
    "pfn": _PFN,
    "recnn": {"hidden": "width"},
    "resnet34": _RESNET,
    "rotated_dense": {"hidden": "width"},
    "transformer": _PART,
    "z2cnn": {"channels": "width"},
}
"""Old option -> new option, for each model whose options were renamed."""

_WRAPPED = {"pixel_cloud": "particlenet_lite", "rotated": "cnn"}
"""Models around another one, to which they hand their options, with its name by default."""

_LAST = {"head.-1": "head.output"}

WEIGHTS: dict[str, dict[str, str]] = {
    "cnn": _LAST,
    "dense": {"head.weight": "head.output.weight", "head.bias": "head.output.bias"},
    "dgcnn": _LAST,
    "efn": {"f": "head", "classify": "head.output"},
    "hl_mlp": {"hidden": "head", "classify": "head.output"},
    "image_cnn": {"network.17": "network.head.output"},
    "lgatr": {"net.linear_out": "head.output"},
    "lgatr_slim": {"net.linear_out": "head.output"},
    "lorentznet": _LAST | {"blocks.*.messages.gate": "blocks.*.messages.phi_m"},
    "part": _LAST,
    "particlenet": _LAST,
    "pcnn": _LAST,
    "pelican": _LAST,
    "pfn": {"f": "head", "classify": "head.output"},
    "recnn": {"classify": "head.output"},
    "z2cnn": {"head.0": "head.output"},
}
"""Old module or tensor -> new one in a state dict. ``head.-1`` is the layer of `head` with the largest
number, ``*`` is any number. A model built by the class of another one has the names of that one."""


def current_options(name: str, options: Mapping[str, Any], *, warn: bool = False) -> dict[str, Any]:
    """Options of a model under their present names.

    Parameters
    ----------
    name : str
        Name of the model.
    options : mapping
        Options, under old or present names.
    warn : bool
        Warn of each old name.

    Raises
    ------
    TypeError
        If an option is given under both names.
    """
    network = options.get("network", _WRAPPED.get(name, name)) if name in _WRAPPED else name
    renames = _OUTPUTS | OPTIONS.get(network, {})
    current: dict[str, Any] = {}
    for option, value in options.items():
        new = renames.get(option, option)
        values = {new: value} if isinstance(new, str) else new(value)
        if warn and option in renames:
            _warn(f"option {option!r} is now called {' and '.join(map(repr, values))}")
        for twice in values.keys() & (current.keys() | options.keys() - {option}):
            raise TypeError(f"{name}: {twice!r} is given twice, once as {option!r}")
        current |= values
    return current


def accept_old_names(name: str, factory: Factory) -> Factory:
    """Let a class or function accept old names of its options, and its networks old weights.

    Parameters
    ----------
    name : str
        Name of the model.
    factory : class or callable
        Class or function that builds it. Of a class, only ``__init__`` changes.
    """
    if "num_classes" in inspect.signature(factory).parameters:
        return factory  # a model of somebody else, with names of its own
    if isinstance(factory, type):
        build: Callable[..., None] = factory.__init__  # type: ignore[misc]

        @functools.wraps(build)
        def init(self: nn.Module, *args: Any, **options: Any) -> None:
            build(self, *args, **current_options(name, options, warn=True))
            _accept_old_weights(name, self)

        factory.__init__ = init  # type: ignore[misc]
        return factory

    @functools.wraps(factory)
    def call(*args: Any, **options: Any) -> nn.Module:
        model = factory(*args, **current_options(name, options, warn=True))
        _accept_old_weights(name, model)
        return model

    return call  # type: ignore[return-value]


def renamed_keyword(old: str, new: str) -> Callable[[Factory], Factory]:
    """Decorate a function so that the keyword `old` is taken for `new`, with a warning."""

    def decorate(function: Factory) -> Factory:
        @functools.wraps(function)
        def call(*args: Any, **keywords: Any) -> Any:
            if old in keywords:
                _warn(f"{old!r} is now called {new!r}")
                if new in keywords:
                    raise TypeError(f"{new!r} is given twice, once as {old!r}")
                keywords[new] = keywords.pop(old)
            return function(*args, **keywords)

        return call  # type: ignore[return-value]

    return decorate


def _accept_old_weights(name: str, model: nn.Module) -> None:
    if name in WEIGHTS:
        model.register_load_state_dict_pre_hook(functools.partial(_rename_weights, WEIGHTS[name]))


def _rename_weights(
    renames: Mapping[str, str], model: nn.Module, state: dict[str, Any], prefix: str, *_: Any
) -> None:
    """Give the entries of a state dict their present names, in place."""
    for old, new in renames.items():
        if old.endswith(".-1"):
            head = old.removesuffix(".-1")
            old = f"{head}.{len(model.get_submodule(head)) - 1}"  # type: ignore[arg-type]
        pattern = re.escape(prefix + old).replace(r"\*", r"(\d+)") + r"(?=\.|$)"
        for key in list(state):
            found = re.match(pattern, key)
            if found:
                current = prefix + new.replace("*", found[1] if found.groups() else "")
                state[current + key[found.end() :]] = state.pop(key)


def _warn(message: str) -> None:
    """Warn of an old name at the line outside this package where it is used."""
    level, frame = 1, sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == "pcloud":
        level, frame = level + 1, frame.f_back
    warnings.warn(
        f"{message}; the old name is accepted until version 1.0",
        OldNameWarning,
        stacklevel=level,
    )
