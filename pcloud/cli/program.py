"""All commands together: the parser, and `main` from the words to the exit code."""

from __future__ import annotations

import sys
from argparse import ArgumentError
from collections.abc import Sequence

from jsonargparse import ArgumentParser

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
from pcloud.cli.errors import USER_ERRORS, complain, explain_argument, message, warnings_in_one_line
from pcloud.cli.parser import make_parser, usage

_FILES = (
    *(train, evaluate, predict, calibrate, uncertainty, explain, report),
    *(compare, convert, simulate, models, datasets),
)
_COMMANDS = {file.COMMAND.name: file.COMMAND for file in _FILES}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    0: done; 2: something given cannot be used, said in one line; 130: interrupted by Ctrl-C.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = build_parser()
    if not arguments:
        parser.print_help()
        return 0
    if arguments[0] == "train":
        arguments = train.join_lists(arguments)
    try:
        options = parser.parse_args(arguments).as_dict()
        name = options["command"]
        pcloud.keep_memory()
        with warnings_in_one_line():
            _COMMANDS[name].execute(options[name])
    except ArgumentError as error:
        return complain(explain_argument(error, arguments, _COMMANDS))
    except USER_ERRORS as error:
        return complain(message(error))
    except KeyboardInterrupt:
        again = "; the same command continues it" if arguments[0] == "train" else ""
        sys.stderr.write(f"pcloud: interrupted{again}\n")
        return 130
    return 0


def build_parser() -> ArgumentParser:
    """The parser of all commands."""
    parser = make_parser(description=pcloud.__doc__.partition("\n")[0], prog="pcloud")
    parser.add_argument(
        "--version", action="version", version=pcloud.__version__, help="Print the version."
    )
    commands = parser.add_subcommands(dest="command", metavar="COMMAND", title="commands")
    for command in _COMMANDS.values():
        sub = make_parser(description=command.summary)
        command.add_options(sub)
        sub.usage = usage(command.name, sub)
        commands.add_subcommand(command.name, sub, help=command.summary)
    return parser
