"""YAML with limits: numbers, texts, lists and mappings of bounded size, and nothing else.

Aliases are refused: a few lines of them stand for billions of values.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from pcloud.errors import InputError

__all__ = ["parse_yaml", "read_yaml"]

_MAX_CHARACTERS = 1_000_000
_MAX_DEPTH = 32  # levels of lists and mappings


class _Loader(yaml.SafeLoader):
    """Loader of plain values that refuses aliases and deep nesting."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.MarkedYAMLError(
                problem=f"the alias *{event.anchor} is not allowed: write the value out",
                problem_mark=event.start_mark,
            )
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise yaml.MarkedYAMLError(
                problem=f"more than {_MAX_DEPTH} levels of lists and mappings",
                problem_mark=self.peek_event().start_mark,
            )
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def parse_yaml(text: str) -> Any:
    """Value of a text in YAML.

    Raises
    ------
    InputError
        If the text is not YAML, too long or too deep, or has aliases or tags of objects.
    """
    if len(text) > _MAX_CHARACTERS:
        raise InputError(f"longer than {_MAX_CHARACTERS:,} characters")
    try:
        return yaml.load(text, _Loader)
    # ValueError: a number or date out of range; the others come from broken tags and keys
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError) as error:
        raise InputError(" ".join(str(error).split())) from error


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Names and values of a YAML file.

    Raises
    ------
    InputError
        If the file does not hold them.
    FileNotFoundError
        If it is not there.
    """
    try:
        with Path(path).open(encoding="utf-8") as file:
            content = parse_yaml(file.read(_MAX_CHARACTERS + 1))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not YAML: {error}") from error
    except InputError as error:
        raise InputError(f"{path} is not YAML: {error}") from error
    except ValueError as error:
        raise InputError(f"not a path: {str(path)!r}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} does not hold names and values")
    return content
