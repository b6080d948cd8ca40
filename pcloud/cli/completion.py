"""``pcloud completion``: scripts with which a shell completes commands, options and values."""

from __future__ import annotations

import re
import shlex
import sys
import textwrap
from argparse import Action, ArgumentParser
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

import pcloud
from pcloud.cli.command import COMMANDS, Command, Flag, Options
from pcloud.cli.parser import build_parser
from pcloud.validation import Choice, accepted_types, choices, hints, metadata, type_name

_HELP_WIDTH = 60  # characters
_Shell = Literal["bash", "zsh", "fish"]


@dataclass(frozen=True, kw_only=True)
class CompletionOptions:
    """Completion."""

    shell: Annotated[_Shell, Flag(positional=True)]
    """Shell whose completion script is printed: bash, zsh or fish. The script needs nothing of pcloud."""


@dataclass(frozen=True)
class _Option:
    """Option of a command, or its arguments where it has no names.

    Attributes
    ----------
    names : tuple of str
        Names, such as ``("-o", "--out")``.
    about : str
        Description, a few words.
    values : tuple of str
        Values to choose from.
    is_text : bool
        Whether the value may be a text, such as a file, which is completed where there are no values.
    number : {"0", "?", "1", "+"}
        Number of values.
    """

    names: tuple[str, ...]
    about: str
    values: tuple[str, ...]
    is_text: bool
    number: str


def execute(options: Options) -> None:
    """Print the script of a shell."""
    sys.stdout.write(script(options["shell"]))


def script(shell: _Shell) -> str:
    """Completion script of a shell, from the parsers of all commands."""
    writers: dict[str, Callable[[], Iterator[str]]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
    header = f"Completion of pcloud {pcloud.__version__}, written by `pcloud completion {shell}`."
    first = "#compdef pcloud\n" if shell == "zsh" else ""
    return f"{first}# {header}\n" + "\n".join(writers[shell]()) + "\n"


def _commands() -> Iterator[tuple[Command, list[_Option]]]:
    parsers = build_parser().commands
    for command in COMMANDS.values():
        yield command, _options(command, parsers[command.name])


def _options(command: Command, parser: ArgumentParser) -> list[_Option]:
    types = {name: hint for stage in command.stages for name, hint in hints(stage).items()}
    return [_option(action, types.get(action.dest)) for action in parser._actions]


def _option(action: Action, hint: Any) -> _Option:
    number = "0" if action.nargs == 0 else str(action.nargs or 1)
    about = re.split(r"[.;:] |\.$", action.help or "")[0].replace("%%", "%")
    about = textwrap.shorten(about.replace("`", ""), _HELP_WIDTH, placeholder="...")
    values = _values(hint) if number != "0" else ()
    is_text = hint is not None and str in accepted_types(hint) | _items(hint)
    return _Option(tuple(action.option_strings), about, values, is_text, number)


def _items(hint: Any) -> set[Any]:
    """Types of the items of the lists that a type allows."""
    parts = get_args(hint)
    if get_origin(hint) is list:
        return accepted_types(parts[0])
    return set().union(*map(_items, parts)) if get_origin(hint) is not Literal else set()


def _values(hint: Any) -> tuple[str, ...]:
    """Values of a type, as far as they have names."""
    if hint is None:
        return ()
    of_registry = [name for m in metadata(hint) if isinstance(m, Choice) for name in m.names()]
    names = choices(hint) or of_registry or re.findall(r"[\w.-]+(?=[,}])", type_name(hint))
    return tuple(sorted(set(names)))


# bash


def _bash() -> Iterator[str]:
    """Function that looks for the option before the word and offers its values, or options."""
    every = list(_commands())
    yield from (
        "_pcloud() {",
        '    local current=${COMP_WORDS[COMP_CWORD]} options="--help" values="" last="" before i',
        "    before=${COMP_WORDS[COMP_CWORD - 1]}",
        '    if [[ $before == "=" ]]; then before=${COMP_WORDS[COMP_CWORD - 2]}; fi',
        '    if [[ $current == "=" ]]; then current=""; fi',
        "    for ((i = COMP_CWORD - 1; i > 1; i--)); do",
        "        if [[ ${COMP_WORDS[i]} == -* ]]; then last=${COMP_WORDS[i]}; break; fi",
        "    done",
        "    COMPREPLY=()",
        "    if ((COMP_CWORD == 1)); then",
        f'        options="--help --version" values="{" ".join(c.name for c, _ in every)}"',
        "    else",
        "        case ${COMP_WORDS[1]} in",
    )
    for command, options in every:
        names = [name for option in options for name in option.names]
        yield f"        {command.name})"
        yield f'            options="{" ".join(names)}"'
        yield from _bash_values([o for o in options if not o.names and o.values], '"$last"', '""')
        single = [o for o in options if o.names and o.values and o.number != "+"]
        yield from _bash_values(single, '"$before"')
        yield from _bash_values([o for o in options if o.values and o.number == "+"], '"$last"')
        yield "            ;;"
    yield from (
        "        esac",
        "    fi",
        "    if [[ $current == -* ]]; then values=$options; fi",
        '    COMPREPLY=($(compgen -W "$values" -- "$current"))',
        "}",
        "complete -o bashdefault -o default -F _pcloud pcloud",
    )


def _bash_values(options: list[_Option], word: str, names: str = "") -> Iterator[str]:
    if options:
        yield f"            case {word} in"
        for option in options:
            yield f'            {names or "|".join(option.names)}) values="{" ".join(option.values)}" ;;'
        yield "            esac"


# zsh


def _zsh() -> Iterator[str]:
    """Function that calls ``_arguments`` with the options of the command."""
    every = list(_commands())
    yield from ("_pcloud() {", "    local -a commands", "    commands=(")
    for command, _ in every:
        yield f"        {shlex.quote(f'{command.name}:{_zsh_text(command.summary)}')}"
    yield from (
        "    )",
        "    if ((CURRENT == 2)); then",
        "        _describe command commands",
        "        return",
        "    fi",
        "    local command=$words[2]",
        "    shift words",
        "    ((CURRENT--))",
        "    case $command in",
    )
    for command, options in every:
        yield f"    {command.name})"
        yield "        _arguments \\"
        specs = [shlex.quote(spec) for option in options for spec in _zsh_specs(option)]
        yield from (f"            {spec} \\" for spec in specs[:-1])
        yield f"            {specs[-1]}"
        yield "        ;;"
    yield from ("    esac", "}", 'if [[ $funcstack[1] == _pcloud ]]; then _pcloud "$@"')
    yield "else compdef _pcloud pcloud; fi"


def _zsh_specs(option: _Option) -> Iterator[str]:
    action = (
        f"({' '.join(option.values)})" if option.values else "_files" if option.is_text else " "
    )
    if not option.names:
        yield f"*:argument:{action}"
    count = {"0": "", "?": "::", "1": ":", "+": ":*-*:"}[option.number]
    value = f"{count}value:{action}" if count else ""
    for name in option.names:
        yield f"{name}[{_zsh_text(option.about)}]{value}"


def _zsh_text(text: str) -> str:
    return re.sub(r"([\[\]:\\])", r"\\\1", text)


# fish


def _fish() -> Iterator[str]:
    """One line for each command and option."""
    for command, options in _commands():
        name = command.name
        yield (
            f"complete -c pcloud -n __fish_use_subcommand -f -a {name}"
            f" -d {_fish_quoted(command.summary)}"
        )
        for option in options:
            words = ["complete -c pcloud -n", _fish_quoted(f"__fish_seen_subcommand_from {name}")]
            words += [f"-l {n[2:]}" if n.startswith("--") else f"-s {n[1:]}" for n in option.names]
            if option.values:
                words.append("-x" if option.names and option.number != "?" else "-f")
                words.append(f"-a {_fish_quoted(' '.join(option.values))}")
            elif option.names and option.number != "0":
                words.append("-r" if option.is_text else "-x")
            if option.names or option.values:
                yield " ".join([*words, "-d", _fish_quoted(option.about)])


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


COMMAND = Command(
    "completion",
    "Print a script with which a shell completes commands and options.",
    execute,
    (CompletionOptions,),
)
