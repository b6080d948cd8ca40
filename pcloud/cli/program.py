"""The parser of all commands, and `main`, from the arguments to the exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pcloud
from pcloud.cli import (
    calibrate,
    compare,
    convert,
    datasets,
    evaluate,
    explain,
    models,
    predict,
    report,
    simulate,
    train,
    uncertainty,
)
from pcloud.cli.command import Command, Options
from pcloud.cli.errors import USER_ERRORS, complain, message, warnings_in_one_line
from pcloud.cli.parser import Parser, add_fields, complete, given_values, option_names, usage
from pcloud.errors import InputError, UnknownNameError

_FILES = (
    *(train, evaluate, predict, calibrate, uncertainty, explain, report),
    *(compare, convert, simulate, models, datasets),
)
_COMMANDS = {file.COMMAND.name: file.COMMAND for file in _FILES}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    0: done; 2: an input error, reported in one line; 130: interrupted by Ctrl-C.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments:
        build_parser().print_help()
        return 0
    try:
        command, options = parse(arguments)
        if command.complete:
            options = complete(command.stages, options)
        pcloud.keep_memory()
        with warnings_in_one_line():
            command.execute(options)
    except USER_ERRORS as error:
        return complain(message(error))
    except KeyboardInterrupt:
        again = "; the same command continues it" if arguments[0] == "train" else ""
        sys.stderr.write(f"pcloud: interrupted{again}\n")
        return 130
    return 0


def parse(arguments: Sequence[str]) -> tuple[Command, Options]:
    """Return the command of a command line and the options given to it.

    Raises
    ------
    InputError
        If an argument is missing or superfluous; `UnknownNameError` for a command or an option that
        does not exist.
    """
    if not arguments[0].startswith("-") and arguments[0] not in _COMMANDS:
        raise UnknownNameError("command", arguments[0], _COMMANDS)
    namespace, unknown = build_parser().parse_known_args(list(arguments))
    if namespace.command is None:
        raise InputError(f"a command is missing: {', '.join(_COMMANDS)}")
    command = _COMMANDS[namespace.command]
    for word in unknown:
        if word.startswith("-"):
            option = word.partition("=")[0]
            raise UnknownNameError("option", option, option_names(command.stages))
        raise InputError(f"{command.name} does not expect the argument {word!r}")
    return command, given_values(command.stages, namespace)


def build_parser() -> Parser:
    """Build the parser of all commands."""
    parser = Parser(description=pcloud.__doc__.partition("\n")[0], prog="pcloud")
    parser.add_argument(
        "--version", action="version", version=pcloud.__version__, help="Print the version."
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for command in _COMMANDS.values():
        sub = commands.add_parser(
            command.name,
            description=command.summary,
            help=command.summary,
            usage=usage(command),
        )
        for stage in command.stages:
            add_fields(sub, stage)
    return parser
