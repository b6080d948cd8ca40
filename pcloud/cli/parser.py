"""Parsers made from dataclasses of options: flags, help, and the values of the words given."""

from __future__ import annotations

import dataclasses
import re
from argparse import SUPPRESS, ArgumentParser, HelpFormatter, Namespace
from collections.abc import Sequence
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

import pcloud
from pcloud.cli.command import COMMANDS, Command, Flag, Options
from pcloud.errors import InputError
from pcloud.validation import (
    accepted_types,
    choices,
    default,
    descriptions,
    flag,
    hints,
    metadata,
    type_name,
    validate,
)
from pcloud.yaml_files import parse_yaml

__all__ = [
    "Parser",
    "add_fields",
    "build_parser",
    "complete",
    "given_values",
    "option_names",
    "usage",
]

_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


class Parser(ArgumentParser):
    """Parser that raises an error instead of exiting, and accepts no abbreviated options.

    Options that hold a mapping are also given one by one: ``--model-options.dropout 0.2``.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_HelpFormatter, **settings)
        self.mappings: dict[str, str] = {}  # fields by option
        self.commands: dict[str, ArgumentParser] = {}

    def error(self, message: str) -> Any:
        """Raise an `InputError`."""
        raise InputError(message)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Add the options ``--mapping.key`` that occur, then parse."""
        for word in args or ():
            option = word.partition("=")[0]
            mapping, _, key = option.partition(".")
            if key and mapping in self.mappings and option not in self._option_string_actions:
                self.add_argument(option, dest=f"{self.mappings[mapping]}.{key}", help=SUPPRESS)
        return super().parse_known_args(args, namespace)


def build_parser() -> Parser:
    """Build the parser of all commands."""
    parser = Parser(description=pcloud.__doc__.partition("\n")[0], prog="pcloud")
    parser.add_argument(
        "--version", action="version", version=pcloud.__version__, help="Print the version."
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for command in COMMANDS.values():
        sub = subparsers.add_parser(
            command.name,
            description=command.summary,
            help=command.summary,
            usage=usage(command),
        )
        for stage in command.stages:
            add_fields(sub, stage)
        parser.commands[command.name] = sub
    return parser


def usage(command: Command) -> str:
    """Line of usage of a command: its positional arguments, and that there are options."""
    names = [
        f"{f.name.upper()}{' ...' if list in accepted_types(hints(stage)[f.name]) else ''}"
        for stage in command.stages
        for f in dataclasses.fields(stage)
        if _form(hints(stage)[f.name]).positional
    ]
    return " ".join(["pcloud", command.name, *names, "[options]"])


def add_fields(parser: ArgumentParser, options: type) -> None:
    """Add the fields of a dataclass to a parser, as a group titled by its docstring.

    A field that is not given is absent from the namespace; the words of the others are read by
    `given_values`.
    """
    group = parser.add_argument_group((options.__doc__ or "").partition("\n")[0].rstrip("."))
    helps = descriptions(options)
    defaults = {f.name: default(f) for f in dataclasses.fields(options)}
    for name, hint in _in_order(options).items():
        form = _form(hint)
        text = helps.get(name, "") + _choices_text(hint) + _default_text(defaults[name])
        settings: dict[str, Any] = {"help": text.replace("%", "%%")}
        if form.positional:
            number = "?" if NoneType in accepted_types(hint) else _number_of_words(hint)
            default_value: dict[str, Any] = {"default": SUPPRESS} if number == "?" else {}
            parser.add_argument(name, nargs=number, metavar=name, **settings, **default_value)
            continue
        if form.switch:
            settings["action"] = "store_true"
        else:
            settings["metavar"] = type_name(hint).removesuffix(" ...")
            settings["nargs"] = _number_of_words(hint)
        if accepted_types(hint) == {bool} and not form.switch:
            settings["const"] = True
        if form.alone is not None:
            settings |= {"nargs": "?", "const": form.alone}
        has_items = dict in accepted_types(hint) and accepted_types(hint) <= {dict, str, NoneType}
        if has_items and isinstance(parser, Parser):
            parser.mappings[flag(name)] = name
        flags = [form.short, flag(name)] if form.short else [flag(name)]
        group.add_argument(*flags, dest=name, default=SUPPRESS, **settings)


def given_values(stages: Sequence[type], namespace: Namespace) -> Options:
    """Values of the options that were given, converted to their types as far as possible.

    An item of a mapping has a key such as ``model_options.dropout``.
    """
    given = vars(namespace)
    types = {name: hint for stage in stages for name, hint in hints(stage).items()}
    values = {name: _value(hint, given[name]) for name, hint in types.items() if name in given}
    items = [name for name in given if "." in name and name.partition(".")[0] in types]
    return values | {name: _any(given[name]) for name in items}


def complete(stages: Sequence[type], given: Options) -> Options:
    """Check the values given and fill in the defaults of the others.

    Raises
    ------
    InputError
        If a value has the wrong type or is out of its bounds.
    """
    options: Options = {}
    for stage in stages:
        values: Any = validate(stage, {name: given[name] for name in hints(stage) if name in given})
        options |= {name: getattr(values, name) for name in hints(stage)}
    return options


def option_names(stages: Sequence[type]) -> list[str]:
    """Names of the options of dataclasses on the command line."""
    return ["--help", *(flag(name) for stage in stages for name in hints(stage))]


def _in_order(options: type) -> dict[str, Any]:
    """Types of the fields by name: arguments, then fields of the class itself, then inherited."""
    types = hints(options)
    inherited = {
        name for base in options.__mro__[1:] for name in vars(base).get("__annotations__", {})
    }
    order = sorted(types, key=lambda name: name in inherited and not _form(types[name]).positional)
    return {name: types[name] for name in order}


def _form(hint: Any) -> Flag:
    return next((marker for marker in metadata(hint) if isinstance(marker, Flag)), Flag())


def _number_of_words(hint: Any) -> str | None:
    if accepted_types(hint) == {bool}:
        return "?"  # --deterministic alone is true
    return "+" if list in accepted_types(hint) else None


def _choices_text(hint: Any) -> str:
    names = choices(hint)
    if not names or type_name(hint).startswith("{"):
        return ""
    return f" One of {', '.join(names)}."


def _default_text(value: Any) -> str:
    if value in (dataclasses.MISSING, None, {}) or value is False:
        return ""
    values = value if isinstance(value, list) else [value]
    return f" (default: {' '.join('true' if v is True else str(v) for v in values)})"


def _value(hint: Any, words: Any) -> Any:
    """Value of the words of an option, as YAML where its type is not a text."""
    if words is True:
        return True
    types = accepted_types(hint)
    if _form(hint).positional:
        return words
    if isinstance(words, list) and (len(words) > 1 or types <= {list, NoneType}):
        return _one_list(hint, words)
    return _one_value(types, words[0] if isinstance(words, list) else words)


def _one_list(hint: Any, words: list[str]) -> Any:
    if len(words) == 1 and words[0].startswith("["):
        values = _one_value({list}, words[0])
        if isinstance(values, list):  # not a file whose name begins like a list
            return values
    (element,) = (get_args(part)[0] for part in _parts(hint) if get_origin(part) is list)
    return [_one_value(accepted_types(element), word) for word in words]


def _parts(hint: Any) -> list[Any]:
    if get_origin(hint) is Annotated:
        return _parts(get_args(hint)[0])
    if get_origin(hint) in (list, dict):
        return [hint]
    return [inner for part in get_args(hint) for inner in _parts(part)]


def _one_value(types: set[Any], word: str) -> Any:
    try:
        value = parse_yaml(word)
    except InputError:
        return word
    if value is None or isinstance(value, str):
        return None if word == "null" and NoneType in types else word
    numbers = {int, float} if float in types else {int}
    is_number = type(value) in numbers and types & numbers
    return value if is_number or type(value) in types else word


def _any(word: str) -> Any:
    """Value of a word where any is allowed; 1e-3, a text in YAML, is a number."""
    if _EXPONENT.fullmatch(word):
        return float(word)
    try:
        return parse_yaml(word)
    except InputError:
        return word


class _HelpFormatter(HelpFormatter):
    """Help that shows a list as ``TEXT ...``."""

    def _format_args(self, action: Any, default_metavar: str) -> str:
        text = super()._format_args(action, default_metavar)
        return f"{action.metavar} ..." if action.nargs == "+" else text
