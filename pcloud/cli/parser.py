"""Parsers whose help can be read."""

from __future__ import annotations

import re
from argparse import SUPPRESS, Action
from typing import Any

from jsonargparse import ArgumentParser, DefaultHelpFormatter


def make_parser(**settings: Any) -> ArgumentParser:
    """A parser that raises what is wrong, and takes no option by half its name."""
    return ArgumentParser(
        exit_on_error=False,
        allow_abbrev=False,
        print_config=None,
        formatter_class=_HelpFormatter,
        **settings,
    )


def usage(name: str, parser: ArgumentParser) -> str:
    """The line of usage of a command: what has to be given, and that there are options."""
    positional = [a.dest.upper() for a in parser._actions if not a.option_strings]
    return " ".join(["pcloud", name, *positional, "[options]"])


class _HelpFormatter(DefaultHelpFormatter):
    """Help with the default where there is one, and without the names of Python types."""

    def _get_help_string(self, action: Action) -> str:
        default = action.default
        if default is None or default is False or default in (SUPPRESS, {}):
            return action.help or ""
        values = default if isinstance(default, list) else [default]
        return f"{action.help} (default: {' '.join(map(str, values))})"

    def _format_action_invocation(self, action: Action) -> str:
        # jsonargparse adds --data+ to --data, which nobody needs to see
        return re.sub(r", --\S+\+ .*", "", super()._format_action_invocation(action))
