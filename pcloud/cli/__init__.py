"""The command line: ``pcloud COMMAND ...``.

A command is a file: a function that adds its options and one that does the work. What does the
work is imported then, so that ``--help`` answers at once.
"""

from pcloud.cli.program import build_parser, main

__all__ = ["build_parser", "main"]
