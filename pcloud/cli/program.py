"""The parser of all commands, and `main`, from the arguments to the exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pcloud
from pcloud.cli import (
    calibrate,
    check,
    compare,
    completion,
    convert,
    datasets,
    doctor,
    download,
    draw,
    evaluate,
    explain,
    export,
    generate,
    inspect,
    models,
    predict,
    pretrain,
    report,
    simulate,
    train,
    tune,
    uncertainty,
    weak,
)
from pcloud.cli.command import COMMANDS, Command, Options
from pcloud.cli.errors import complain, message, warnings_in_one_line
from pcloud.cli.output import say
from pcloud.cli.parser import build_parser, complete, given_values, option_names
from pcloud.cli.streams import any_encoding, discard_output, flush_output, write_error
from pcloud.errors import InputError, UnknownNameError
from pcloud.memory import reuse_memory
from pcloud.validation import hints

_FILES = (
    *(train, pretrain, tune, weak, evaluate, predict, calibrate, uncertainty, explain, report),
    *(generate, export, check, compare, inspect, draw, convert, simulate, models, datasets),
    *(download, doctor, completion),
)
_INTERRUPTED = 130  # exit codes of a shell for programs that end by SIGINT and SIGPIPE
_BROKEN_PIPE = 141
COMMANDS.update({file.COMMAND.name: file.COMMAND for file in _FILES})
_DAY = (
    "inspect jets.root",
    "train --data jets.root --model particlenet --out runs/first",
    "evaluate runs/first",
    "report runs/first",
    "predict runs/first more.root -o scores.parquet",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    0: done; 2: an error of the input or of the system, such as a full disk or too little memory,
    reported in one line; 130: interrupted by Ctrl-C; 141: the reader of the output has ended.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    with any_encoding():
        try:
            _run(arguments)
        except BrokenPipeError:
            discard_output()
            return _BROKEN_PIPE
        except KeyboardInterrupt:
            again = (
                "; the same command continues it"
                if arguments[:1] in (["train"], ["pretrain"], ["tune"], ["weak"])
                else ""
            )
            write_error(f"pcloud: interrupted{again}")
            return _INTERRUPTED
        except Exception as error:
            line = message(error, _options_of(arguments))
            if line is None:
                raise
            try:
                flush_output()
            except OSError:  # the output itself cannot be written
                discard_output()
            return complain(line)
    return 0


def _run(arguments: list[str]) -> None:
    if not arguments:
        _print_day()
        flush_output()
        return
    try:
        command, options = parse(arguments)
    except SystemExit:  # of --help and --version
        flush_output()
        raise
    if command.complete:
        options = complete(command.stages, options)
    reuse_memory()
    with warnings_in_one_line():
        command.execute(options)
    flush_output()


def _print_day() -> None:
    """Print the commands of a normal day, in their order."""
    say(f"pcloud {pcloud.__version__}, the commands of a normal day:")
    for example in _DAY:
        say(f"  pcloud {example}")
        say(f"      {COMMANDS[example.partition(' ')[0]].summary}")
    say("All commands: pcloud --help. Options of one: pcloud COMMAND --help.")


def _options_of(arguments: list[str]) -> list[str]:
    """Names of the options of the command that is called."""
    command = COMMANDS.get(arguments[0]) if arguments else None
    return [name for stage in command.stages for name in hints(stage)] if command else []


def parse(arguments: Sequence[str]) -> tuple[Command, Options]:
    """Return the command of a command line and the options given to it.

    Raises
    ------
    InputError
        If an argument is missing or superfluous; `UnknownNameError` for a command or an option that
        does not exist.
    """
    if not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
        raise UnknownNameError("command", arguments[0], COMMANDS)
    namespace, unknown = build_parser().parse_known_args(list(arguments))
    if namespace.command is None:
        raise InputError(f"a command is missing: {', '.join(COMMANDS)}")
    command = COMMANDS[namespace.command]
    for word in unknown:
        if word.startswith("-"):
            option = word.partition("=")[0]
            raise UnknownNameError("option", option, option_names(command.stages))
        raise InputError(f"{command.name} does not expect the argument {word!r}")
    return command, given_values(command.stages, namespace)
