"""Options as dataclasses: their documentation, and values checked against their types.

An option is a field with a string under it, which is its documentation. Its type may carry bounds
(`annotated_types`) and a `Choice` among the names of a registry. pydantic is imported only when
values are checked, so that the help of the command line does not wait for it.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import math
import reprlib
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from annotated_types import Ge, Gt, Interval, Le, Lt

from pcloud.errors import InputError, UnknownNameError, nearest

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

__all__ = [
    "Checked",
    "Choice",
    "Converted",
    "accepted_types",
    "checked",
    "choices",
    "default",
    "descriptions",
    "fits",
    "flag",
    "hints",
    "metadata",
    "parameters",
    "type_name",
    "validate",
]

T = TypeVar("T")

_MAX_IN_PLACE = 6  # more names than these are listed in the help of an option
_DOCSTRING_WIDTH = 88  # characters


@dataclass(frozen=True)
class Choice:
    """Names that a string may have, such as those of a registry; part of the type of a field.

    Attributes
    ----------
    kind : str
        Term for one of them, such as ``"optimizer"``.
    names : callable
        Returns the names; called whenever a name is checked, so that registered ones count.
    is_other : callable
        Tells strings that need not be among the names, such as paths.
    listed : bool
        Whether the help lists the names; False where `names` takes long.
    """

    kind: str
    names: Callable[[], Iterable[str]]
    is_other: Callable[[str], bool] = lambda name: False
    listed: bool = True

    def check(self, name: str) -> str:
        """Return `name` if it is one of the names.

        Raises
        ------
        UnknownNameError
            If it is not.
        """
        names = list(self.names())
        if name not in names and not self.is_other(name):
            raise UnknownNameError(self.kind, name, names)
        return name

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(self.check, handler(source))


@dataclass(frozen=True)
class Converted:
    """Function that converts or checks a value; part of the type of a field.

    Attributes
    ----------
    function : callable
        Function of the value; it raises a ValueError for a value that cannot be used.
    after : bool
        Whether the value has the type of the field before the function is called, rather than after.
    """

    function: Callable[[Any], Any]
    after: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic_core import core_schema

        if self.after:
            return core_schema.no_info_after_validator_function(self.function, handler(source))
        return core_schema.no_info_before_validator_function(self.function, handler(source))


@dataclass(frozen=True)
class Checked:
    """Function that takes the place of all other checks of a type, which pydantic may not know.

    Attributes
    ----------
    function : callable
        Function of the value; it returns the value to use, or raises a ValueError.
    """

    function: Callable[[Any], Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(self.function)


def checked(kind: Any, values: Any, place: str = "") -> Any:
    """Convert plain values, as from a file, to a type, and check them.

    Parameters
    ----------
    kind : type
        Dataclass, `TypedDict` or other type, whose parts may have bounds.
    values : any
        Plain values: numbers, strings, None, lists, dictionaries, and tensors where `kind` has them.
    place : str
        Name of the values in their file, for the error message.

    Raises
    ------
    InputError
        If a value is absent, has the wrong type or is out of its bounds; the message begins with
        its place, such as ``metrics.auc.error``.
    """
    from pydantic import ValidationError

    try:
        return _adapter(kind).validate_python(values)
    except ValidationError as error:
        raise InputError(_problem(error, values, place)) from None


def fits(kind: Any, value: Any) -> bool:
    """Return whether a value can be one of a type; True for types that cannot be checked.

    Strings are no numbers here, as they are nowhere in Python.
    """
    from pydantic import PydanticUserError, TypeAdapter, ValidationError
    from pydantic.errors import PydanticSchemaGenerationError

    try:
        adapter = TypeAdapter(kind, config={"arbitrary_types_allowed": True})
    except (PydanticUserError, PydanticSchemaGenerationError):
        return True
    try:
        adapter.validate_python(value)
    except ValidationError:
        return False
    return not isinstance(value, str) or bool(accepted_types(kind) - {int, float, bool, NoneType})


def validate(options: type[T], values: Mapping[str, Any]) -> T:
    """Make a dataclass of options from names and values, checked against its types.

    Raises
    ------
    InputError
        If a value has the wrong type or is out of its bounds, or an option without a default is
        missing; `UnknownNameError` for an option or a choice that does not exist.
    """
    types = hints(options)  # type: ignore[arg-type]
    for name, value in values.items():
        if name not in types:
            raise UnknownNameError("option", str(name), types)
        if isinstance(value, bool) and not accepted_types(types[name]) & {bool, Any}:
            raise _wrong_type(name, value, types[name])  # pydantic takes True for 1

    from pydantic import ValidationError

    try:
        return _adapter(options).validate_python(dict(values))  # type: ignore[arg-type]
    except ValidationError as error:
        raise _in_one_line(error, values, types) from None


def flag(name: str) -> str:
    """Name of an option on the command line: ``--max-jets`` of ``max_jets``."""
    return f"--{name.replace('_', '-')}"


# Types


@cache
def hints(options: type) -> dict[str, Any]:
    """Types of the fields of a dataclass, with bounds and choices, by name."""
    types = get_type_hints(options, include_extras=True)
    return {f.name: types[f.name] for f in dataclasses.fields(options)}


def accepted_types(hint: Any) -> set[Any]:
    """Classes of the values of a type, such as {int, NoneType} of ``int | None``."""
    if get_origin(hint) is Annotated:
        return accepted_types(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        return set().union(*map(accepted_types, get_args(hint)))
    if get_origin(hint) is Literal:
        return {type(value) for value in get_args(hint)}
    return {get_origin(hint) or hint}


def type_name(hint: Any) -> str:
    """Short name of a type for the command line: ``{a,b}``, ``INT``, ``TEXT ...``."""
    names = choices(hint)
    if names and len(names) <= _MAX_IN_PLACE:
        return f"{{{','.join(names)}}}"
    if get_origin(hint) is Annotated:
        return type_name(get_args(hint)[0])
    parts = [part for part in get_args(hint) if part is not NoneType]
    if get_origin(hint) in (Union, UnionType):
        texts = dict.fromkeys(text for part in parts for text in type_name(part).split("|"))
        return "|".join(text for text in texts if f"{text} ..." not in texts)
    if get_origin(hint) is list:
        return f"{type_name(parts[0])} ..."
    simple = {str: "TEXT", int: "INT", float: "NUMBER", bool: "{true,false}"}
    return simple.get(hint, "MAPPING")


def choices(hint: Any) -> tuple[str, ...]:
    """Names that a type allows, where it is nothing but a choice."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    if get_origin(hint) is Annotated:
        listed = [c for c in hint.__metadata__ if isinstance(c, Choice) and c.listed]
        return tuple(listed[0].names()) if listed else ()
    parts = [part for part in get_args(hint) if part is not NoneType]
    is_optional = get_origin(hint) in (Union, UnionType) and len(parts) == 1
    return choices(parts[0]) if is_optional else ()


# Documentation


@cache
def descriptions(options: type) -> dict[str, str]:
    """Strings under the fields of a dataclass, each in one line; none where no source is there."""
    found: dict[str, str] = {}
    for base in reversed(options.__mro__):
        if dataclasses.is_dataclass(base):
            found |= _strings_under_fields(base)
    return found


def parameters(*stages: type) -> str:
    """Section ``Parameters`` of a docstring: type, default and meaning of every field."""
    lines = []
    for stage in stages:
        for f in dataclasses.fields(stage):
            lines.append(f"{f.name} : {_python_type(hints(stage)[f.name])}{_default_text(f)}")
            text = descriptions(stage).get(f.name, "")
            lines.append(textwrap.indent(textwrap.fill(text, _DOCSTRING_WIDTH), "    "))
    return "\n".join(lines)


def default(f: dataclasses.Field) -> Any:
    """Value of a field that is not given; `dataclasses.MISSING` where it has to be."""
    return f.default if f.default_factory is dataclasses.MISSING else f.default_factory()


def _default_text(f: dataclasses.Field) -> str:
    value = default(f)
    if value is dataclasses.MISSING:
        return ""
    return ", optional" if value is None else f", default {value!r}"


def _python_type(hint: Any) -> str:
    if names := choices(hint):
        return f"{{{', '.join(map(repr, names))}}}"
    if get_origin(hint) is Annotated:
        return _python_type(get_args(hint)[0])
    parts = [_python_type(part) for part in get_args(hint) if part is not NoneType]
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(parts)
    if get_origin(hint) is list:
        return f"list of {parts[0]}"
    return getattr(get_origin(hint) or hint, "__name__", str(hint))


def _strings_under_fields(options: type) -> dict[str, str]:
    found: dict[str, str] = {}
    for field, below in itertools.pairwise(_class_body(options)):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=text)):
                found[name] = " ".join(str(text).split())
    return found


def _class_body(options: type) -> list[ast.stmt]:
    for node in _module_body(options.__module__):
        if isinstance(node, ast.ClassDef) and node.name == options.__name__:
            return node.body
    return []


@cache
def _module_body(module: str) -> list[ast.stmt]:
    try:
        return ast.parse(inspect.getsource(sys.modules[module])).body
    except OSError:  # installed without its source
        return []


# Errors


@cache
def _adapter(options: type) -> TypeAdapter:
    from pydantic import TypeAdapter

    return TypeAdapter(options)


def _problem(error: ValidationError, values: Any, place: str) -> str:
    """Place and reason of the first problem that pydantic found, at the deepest place."""
    problems = error.errors(include_url=False)
    places = [(list(_place(values, p["loc"])), p) for p in problems]
    keys, problem = max(places, key=lambda place: len(place[0]))
    if problem["type"] == "missing":
        keys.append(problem["loc"][-1])
    text = ".".join(_brief(key) for key in ([place] if place else []) + keys)
    cause = problem.get("ctx", {}).get("error")
    reason = str(cause) if isinstance(cause, ValueError) else problem["msg"]
    if problem["type"] == "missing":
        reason = "is missing"
    elif not isinstance(cause, ValueError):
        given = " ".join(_SHORT.repr(problem["input"]).split())
        given = f"{given[:80]}..." if len(given) > 80 else given
        reason = f"{given} cannot be used; {_expected(problem['msg'])}"
    return f"{text}: {reason}" if text else reason


_SHORT = reprlib.Repr()
_SHORT.maxlevel = 3
_SHORT.maxstring = _SHORT.maxother = 60


def _brief(key: Any) -> str:
    """Name of a field; one that is no name, or a long one, in short."""
    return key if isinstance(key, str) and key.isprintable() and len(key) < 60 else _SHORT.repr(key)


def _expected(text: str) -> str:
    return f"expected {text.removeprefix('Input should be ').partition(',')[0]}"


def _in_one_line(
    error: ValidationError, values: Mapping[str, Any], types: Mapping[str, Any]
) -> InputError:
    """The first problem that pydantic found, at the deepest place."""
    problems = error.errors(include_url=False)
    cause = problems[0].get("ctx", {}).get("error")
    name = str(problems[0]["loc"][0]) if problems[0]["loc"] else ""
    of_field = len(choices(types[name])) if name else 0  # not of the check of several fields
    if isinstance(cause, UnknownNameError) and 0 < of_field <= _MAX_IN_PLACE:
        return _wrong_type(name, values[name], types[name])
    if isinstance(cause, InputError):
        return cause
    if problems[0]["type"] == "missing":
        return InputError(f"{name} is missing")
    places = [(list(_place(values, p["loc"])), p) for p in problems if p["loc"][0] == name]
    keys, problem = max(places, key=lambda place: len(place[0]))
    inner = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys[1:])
    if bounds := _bounds(types[name], problem["type"]):
        return InputError(f"{name}{inner} must be {bounds}, got {problem['input']!r}")
    if len(keys) == 1:
        return _wrong_type(name, values[name], types[name])
    expected = problem["msg"].removeprefix("Input should be ").partition(",")[0]
    return InputError(f"{flag(name)}{inner}: {_short(problem['input'])}; expected {expected}")


def _wrong_type(name: str, value: Any, hint: Any) -> InputError:
    near = nearest(value, choices(hint)) if isinstance(value, str) else None
    hint_of_name = f"; did you mean {near!r}?" if near else ""
    return InputError(f"{flag(name)}: {_short(value)}; expected {type_name(hint)}{hint_of_name}")


def _short(value: Any) -> str:
    text = " ".join((value if isinstance(value, str) else _SHORT.repr(value)).split())
    return f"{text[:80] + '...' if len(text) > 80 else text!r} cannot be used"


def _place(values: Any, location: Iterable[Any]) -> Iterator[Any]:
    """Keys to a value; pydantic's names of the members of a union are left out."""
    for key in location:
        if (isinstance(values, Mapping) and key in values) or (
            isinstance(values, list | tuple) and isinstance(key, int) and key < len(values)
        ):
            yield key
            values = values[key]


_SIDES = {
    "greater_than": Gt,
    "greater_than_equal": Ge,
    "less_than": Lt,
    "less_than_equal": Le,
}


def _bounds(hint: Any, problem: str) -> str:
    """Bounds of a number in words, or those on the side on which it is out of them."""
    if problem not in _SIDES:
        return ""
    bounds = list(metadata(hint))
    for bound in bounds:
        match bound:
            case Interval(gt=None, ge=lower, lt=None, le=upper):
                return f"between {lower} and {upper}"
            case Interval(gt=lower, ge=None, lt=None, le=upper):
                return f"above {lower} and at most {upper}"
            case Interval(gt=lower, lt=upper):
                return f"between {lower} and {upper}"
    match next(bound for bound in bounds if isinstance(bound, _SIDES[problem])):
        case Gt(gt=0):
            return "positive"
        case Gt(gt=lower):
            return f"above {lower}"
        case Ge(ge=lower):
            return f"at least {lower}"
        case Lt(lt=math.inf):
            return "finite"
        case Lt(lt=upper):
            return f"below {upper}"
        case Le(le=upper):
            return f"at most {upper}"
    return ""


def metadata(hint: Any) -> Iterator[Any]:
    """Bounds, choices and other markers in a type and its parts."""
    if get_origin(hint) is Annotated:
        yield from hint.__metadata__
    for part in get_args(hint):
        if get_origin(hint) is not Literal:
            yield from metadata(part)
