"""Registry of models by name, with the entries of the table of models."""

from __future__ import annotations

import functools
import importlib
import inspect
import operator
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, cast, get_origin, get_type_hints

from torch import nn

from pcloud.errors import InputError, UnknownNameError
from pcloud.models.code import ModelCode, read_code, run_code
from pcloud.models.old_names import accept_old_names, current_options, renamed_keyword
from pcloud.models.size import limited_size
from pcloud.models.trust import allowed_modules, note_use, user_names
from pcloud.nn.layout import as_layout
from pcloud.plugins import load_plugins
from pcloud.validation import fits

__all__ = [
    "ModelInfo",
    "build_model",
    "list_models",
    "model_factory",
    "model_info",
    "offers_particles",
    "reads_features",
    "register_model",
    "takes_jet_features",
    "takes_option",
    "takes_positions",
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
        ``"image"`` for ``model(images)`` with ``images (B, F, H, W)``, ``"table"`` for
        ``model(rows)`` with ``rows (B, F)``, ``"series"`` for ``model(records)`` with ``records (B,
        F, T)``, ``"generator"`` for ``model(x, u, label, layout) -> losses``, and
        ``"anomalous_cloud"`` and ``"anomalous_image"`` for anomaly detectors with the arguments of clouds
        and images.

    Examples
    --------
    >>> from pcloud.models import model_info
    >>> isinstance(model_info("part"), ModelInfo), model_info("part").kind
    (True, 'cloud')
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
_HOMES = (
    "pcloud.models",
    "pcloud.images",
    "pcloud.tables",
    "pcloud.series",
    "pcloud.anomaly",
    "pcloud.generative",
)  # packages that register their models on import


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
    """Return the names of all registered models of a kind: taggers of clouds by default.

    Examples
    --------
    >>> "particlenet" in list_models()
    True
    """
    return sorted(name for name, info in _registered().items() if info.kind == kind)


def model_info(name: str) -> ModelInfo:
    """Return the description of a model.

    Raises
    ------
    UnknownNameError
        If there is no model of that name.

    Examples
    --------
    >>> info = model_info("particlenet")
    >>> info.name, info.year
    ('particlenet', 2019)
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
        ``batch (N,)``, where None stands for one jet of all particles; the optional fourth argument `layout` is a precomputed
        :class:`~pcloud.nn.RaggedLayout`, which also carries the stored momenta of the jets. A model
        of your own need not have it.

    Raises
    ------
    UnknownNameError
        If there is no such model or option, or no such class in the file.
    InputError
        If the file cannot be found or imported, a necessary option is missing (`size` of networks
        on images), or the model rejects the value of an option.

    Examples
    --------
    >>> model = build_model("pfn", in_features=7, num_outputs=3, head_widths=(32,))
    >>> sum(p.numel() for p in model.parameters())
    38275
    """
    with user_names():
        factory = model_factory(name)
        options = current_options(name, options, warn=True)
        _check_numbers(in_features, num_outputs)
        _check_options(name, factory, options)
        try:
            with limited_size():
                model = factory(in_features, num_outputs, **options)
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
            reason = " ".join(str(error).split())
            raise InputError(f"model {name!r} cannot be built with {options}: {reason}") from error
        return _for_one_jet(model) if ":" in name else _without_layout(model)


def _without_layout(model: nn.Module) -> nn.Module:
    """Let a model that takes no layout accept one, and ``batch=None`` for one jet."""
    names = list(inspect.signature(model.forward).parameters)
    if len(names) == 3 and names[:2] == ["x", "p4"]:
        hook = functools.partial(_leave_layout_out, names)
        model.register_forward_pre_hook(hook, with_kwargs=True)
    return model


def _for_one_jet(model: nn.Module) -> nn.Module:
    """Let a model of the user accept ``batch=None`` for one jet, and a layout that it does not take."""
    names = list(inspect.signature(model.forward).parameters)
    if names[:2] == ["x", "p4"] and len(names) > 3 and "layout" in names:
        model.register_forward_pre_hook(functools.partial(_fill_batch, names), with_kwargs=True)
        return model
    return _without_layout(model)


def _fill_batch(
    names: list[str], model: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    given = dict(zip(names, inputs, strict=False)) | options
    if given.get(names[2]) is None:
        given[names[2]] = as_layout(None, given.get("layout"), given["x"]).batch
    return (), given


def _leave_layout_out(
    names: list[str], model: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    given = dict(zip([*names, "layout"], inputs, strict=False)) | options
    layout = given.pop("layout", None)
    if given.get(names[2]) is None:
        given[names[2]] = as_layout(None, layout, given["x"]).batch
    return tuple(given.pop(name) for name in names), given


def model_factory(name: str) -> Callable[..., nn.Module]:
    """Return the class or function that builds a registered name or a ``file:Class``."""
    return _from_file(name) if ":" in name else model_info(name).factory


def takes_jet_features(name: str) -> bool:
    """Return True for a model with features of jets, ``u (B, G)`` of its ``forward``."""
    forward = getattr(_class_of(name), "forward", None)
    return forward is not None and "u" in inspect.signature(forward).parameters


def takes_option(name: str, option: str) -> bool:
    """Return True for a model with an option of this name."""
    factory = _class_of(name)
    return factory is not None and option in inspect.signature(factory).parameters


def reads_features(name: str) -> bool:
    """Return True for a model that reads the features `x`, not only four-momenta."""
    return ":" in name or model_info(name).inputs != "p4"


def offers_particles(name: str) -> bool:
    """Return False for a model without a representation of each particle, ``particles`` and ``pool``.

    True for a function of the user's own that does not name its class.
    """
    model = _class_of(name)
    if model is None or not inspect.isclass(model):
        return True
    return all(hasattr(model, part) for part in ("particles", "pool"))


def takes_positions(name: str) -> bool:
    """Return True for a model that takes particles without momentum, by their positions.

    Those are the models that read no momenta, and those that read them only to find neighbours or to
    sort the rows of their collections.
    """
    reads_none = ":" in name or model_info(name).inputs == "x"
    return reads_none or any(takes_option(name, o) for o in ("coordinates", "collections"))


def _class_of(name: str) -> Callable[..., nn.Module] | None:
    """Class of a model; None for a function of the user's own that does not name it."""
    factory = model_factory(name)
    if inspect.isclass(factory):
        return cast("type[nn.Module]", factory)
    try:
        return get_type_hints(factory).get("return", factory)
    except (NameError, TypeError):
        return None


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


def _check_numbers(in_features: int, num_outputs: int) -> None:
    """Check the numbers of features and outputs, of which torch says only that a size is wrong."""
    for option, number, least in (("in_features", in_features, 0), ("num_outputs", num_outputs, 1)):
        try:
            fits = operator.index(number) >= least and not isinstance(number, bool)
        except TypeError:
            fits = False
        if not fits:
            raise InputError(f"{option} must be an integer of at least {least}, got {number!r}")


def _check_options(name: str, factory: Callable[..., nn.Module], options: dict[str, Any]) -> None:
    known = inspect.signature(factory).parameters
    for option, parameter in list(known.items())[2:]:
        named = parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        if named and parameter.default is parameter.empty and option not in options:
            example = ", such as size=(28, 28)" if option == "size" else ""
            raise InputError(f"model {name!r} needs the option {option}{example}")
    if any(p.kind is p.VAR_KEYWORD for p in known.values()):
        return  # passed on to another model, which checks them
    _check_names(name, known, options)
    try:
        types = get_type_hints(
            getattr(factory, "__init__", factory) if inspect.isclass(factory) else factory
        )
    except (NameError, TypeError, AttributeError):  # of a model of the user's own
        return
    for option, value in options.items():
        if ":" not in name and _is_sequence(types.get(option)):
            continue  # the model checks it, and says how many values it takes
        if option in types and not fits(types[option], value):
            raise InputError(
                f"model {name!r}: {option} cannot be {reprlib.repr(value)}, expected "
                f"{str(known[option].annotation).removeprefix('typing.')}"
            )


def check_option_names(name: str, options: Iterable[str]) -> None:
    """Check that a model has options of these names, before it is built.

    Models in files, and those that pass their options on to another one, are not checked.

    Raises
    ------
    UnknownNameError
        If it has not.
    """
    if ":" in name:
        return
    known = inspect.signature(model_info(name).factory).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in known.values()):
        _check_names(name, known, options)


def _check_names(name: str, known: Mapping[str, Any], options: Iterable[str]) -> None:
    for option in options:
        if option not in known:
            raise UnknownNameError(f"option of model {name!r}", option, list(known)[2:])


def _is_sequence(hint: Any) -> bool:
    """True for the type of a list or tuple."""
    kind = get_origin(hint)
    return isinstance(kind, type) and issubclass(kind, Sequence)


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
