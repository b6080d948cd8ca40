"""Registry of models by name, with the entries of the table of models."""

from __future__ import annotations

import importlib
import inspect
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, get_type_hints

from torch import nn

from pcloud.errors import InputError, UnknownNameError
from pcloud.models.code import ModelCode, read_code, run_code
from pcloud.models.old_names import accept_old_names, current_options, renamed_keyword
from pcloud.models.size import limited_size
from pcloud.models.trust import allowed_modules, note_use, user_names
from pcloud.plugins import load_plugins
from pcloud.validation import fits

__all__ = [
    "ModelInfo",
    "build_model",
    "list_models",
    "model_factory",
    "model_info",
    "register_model",
]

Factory = TypeVar("Factory", bound=Callable[..., nn.Module])


@dataclass(frozen=True)
class ModelInfo:
    """Description of a registered model.

    Attributes
    ----------
    name : str
        Name in `build_model` and on the command line.
    factory : callable
        ``factory(in_features, num_outputs, **options)`` builds the model.
    paper : str
        arXiv number.
    year : int
        Year of the paper.
    use : str
        Purpose for which the model is suited, in a few words.
    inputs : str
        Inputs that the model uses: the features `x`, the four-momenta `p4`, or both.
    symmetries : tuple of str
        Transformations of a jet under which its score is exactly invariant.
    kind : str
        Kind of input, see :mod:`pcloud.modality`: ``"cloud"`` for ``model(x, p4, batch)``, or
        ``"image"`` for ``model(images)`` with ``images (B, F, H, W)``.
    """

    name: str
    factory: Callable[..., nn.Module]
    paper: str
    year: int
    use: str
    inputs: str = "x"
    symmetries: tuple[str, ...] = ("permutation",)
    kind: str = "cloud"

    @property
    def summary(self) -> str:
        """First line of the docstring."""
        return (inspect.getdoc(self.factory) or "").partition("\n")[0]


_MODELS: dict[str, ModelInfo] = {}
_HOMES = ("pcloud.models", "pcloud.images")  # packages that register their models on import


def register_model(
    name: str,
    *,
    paper: str,
    year: int,
    use: str,
    inputs: str = "x",
    symmetries: tuple[str, ...] = ("permutation",),
    kind: str = "cloud",
) -> Callable[[Factory], Factory]:
    """Decorate a class or function so that `build_model` finds the model by `name`.

    The parameters are those of :class:`ModelInfo`. The first two arguments of the class or function
    are the numbers of features and of outputs.

    Raises
    ------
    ValueError
        If there is a model of that name already.
    """

    def register(factory: Factory) -> Factory:
        if name in _MODELS:
            raise ValueError(f"a model named {name!r} exists already: {_MODELS[name].factory}")
        factory = accept_old_names(name, factory)
        _MODELS[name] = ModelInfo(name, factory, paper, year, use, inputs, symmetries, kind)
        return factory

    return register


def list_models(kind: str = "cloud") -> list[str]:
    """Return the names of all registered models of a kind: taggers of clouds by default."""
    return sorted(name for name, info in _registered().items() if info.kind == kind)


def model_info(name: str) -> ModelInfo:
    """Return the description of a model.

    Raises
    ------
    UnknownNameError
        If there is no model of that name.
    """
    models = _registered()
    if name not in models:
        raise UnknownNameError("model", name, models)
    return models[name]


def _registered() -> dict[str, ModelInfo]:
    for home in _HOMES:
        importlib.import_module(home)
    load_plugins("pcloud.models")
    return _MODELS


@renamed_keyword("num_classes", "num_outputs")
def build_model(name: str, in_features: int, num_outputs: int = 2, **options: Any) -> nn.Module:
    """Build a model with random weights.

    Parameters
    ----------
    name : str
        A registered name, or ``file:Class`` for a model of your own: ``my_file.py:MyTagger`` or
        ``my_file:MyTagger``, a file in the current folder or an installed module.
    in_features : int
        Features per particle F.
    num_outputs : int
        Number of outputs, one for each class (C). Its earlier name ``num_classes`` is accepted until
        version 1.0.
    **options
        Options of the model, such as ``dropout=0.2``.

    Returns
    -------
    torch.nn.Module
        ``model(x, p4, batch) -> logits (B, C)`` with ``x (N, F)``, ``p4 (N, 4)`` in GeV and
        ``batch (N,)``; the optional fourth argument `layout` is a precomputed
        :class:`~pcloud.nn.RaggedLayout`, which also carries the stored momenta of the jets. A model
        of your own need not have it.

    Raises
    ------
    UnknownNameError
        If there is no such model or option, or no such class in the file.
    InputError
        If the file cannot be found or imported, or the model rejects the value of an option.
    """
    with user_names():
        factory = model_factory(name)
        options = current_options(name, options, warn=True)
        _check_options(name, factory, options)
        try:
            with limited_size():
                return _without_layout(factory(in_features, num_outputs, **options))
        except (
            TypeError,
            ValueError,
            AttributeError,
            ArithmeticError,
            AssertionError,
            LookupError,
            MemoryError,
            RuntimeError,
        ) as error:
            if isinstance(error, InputError) or not options:
                raise
            raise InputError(f"model {name!r} cannot be built with {options}: {error}") from error


def _without_layout(model: nn.Module) -> nn.Module:
    """Drop the layout before `forward` of a model that does not take one."""
    parameters = inspect.signature(model.forward).parameters
    if len(parameters) == 3 and list(parameters)[:2] == ["x", "p4"]:
        model.register_forward_pre_hook(lambda module, inputs: inputs[:3])
    return model


def model_factory(name: str) -> Callable[..., nn.Module]:
    """Return the class or function that builds a registered name or a ``file:Class``."""
    return _from_file(name) if ":" in name else model_info(name).factory


def check_code(name: str, options: Mapping[str, Any]) -> None:
    """Import the Python code of a model, and of the network that it wraps.

    Raises
    ------
    InputError
        If it may not run, or cannot be imported.
    """
    for code in (name, options.get("network")):
        if isinstance(code, str) and ":" in code:
            model_factory(code)


def _check_options(name: str, factory: Callable[..., nn.Module], options: dict[str, Any]) -> None:
    known = inspect.signature(factory).parameters
    if any(p.kind is p.VAR_KEYWORD for p in known.values()):
        return  # passed on to another model, which checks them
    for option in options:
        if option not in known:
            raise UnknownNameError(f"option of model {name!r}", option, list(known)[2:])
    try:
        types = get_type_hints(
            getattr(factory, "__init__", factory) if inspect.isclass(factory) else factory
        )
    except (NameError, TypeError, AttributeError):  # of a model of the user's own
        return
    for option, value in options.items():
        if option in types and not fits(types[option], value):
            raise InputError(
                f"model {name!r}: {option} cannot be {reprlib.repr(value)}, expected "
                f"{str(known[option].annotation).removeprefix('typing.')}"
            )


def _from_file(name: str) -> Callable[..., nn.Module]:
    code = read_code(name)
    module = _imported(code)
    if not hasattr(module, code.class_name):
        known = _public_callables(module)
        raise UnknownNameError("model", code.class_name, known, str(code.path))
    factory = getattr(module, code.class_name)
    if not callable(factory):
        raise InputError(
            f"model {name!r}: {code.class_name} in {code.path} is no class or function"
        )
    note_use(code)
    return factory


_FROM_FILES: dict[Path, tuple[ModelCode, ModuleType]] = {}
"""Modules of files beside the user, by path, with the code as it was imported."""


def _imported(code: ModelCode) -> ModuleType:
    """Import the module of a ``file:Class``, if it may run; once, unless the code has changed."""
    allowed = allowed_modules(code)
    known, module = _FROM_FILES.get(code.path, (None, None))
    if known is not None and module is not None and known.content == code.content:
        code.others = known.others
        return module
    if code.from_file:
        for model in [n for n, info in _MODELS.items() if info.factory.__module__ == code.module]:
            del _MODELS[model]  # of the file before it was changed
    try:
        module = run_code(code, allowed)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"model {code.name!r}: importing {code.path} failed: {error!r}") from error
    _FROM_FILES[code.path] = (code, module)
    return module


def _public_callables(module: Any) -> list[str]:
    return [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
