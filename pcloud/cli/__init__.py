"""The command line: ``pcloud COMMAND ...``.

Each command is a file: dataclasses of its options and a function that executes it. The function
imports what it needs, so that ``--help`` answers at once.
"""

from pcloud.cli.parser import build_parser
from pcloud.cli.program import main

__all__ = ["build_parser", "main"]
