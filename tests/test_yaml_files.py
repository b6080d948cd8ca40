"""YAML with limits: values only, and never more of them than are written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pcloud
from pcloud.errors import InputError
from pcloud.yaml_files import parse_yaml, read_yaml

BOMB = "a: &a [x, x, x]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b]"


def test_plain_values_are_read(tmp_path: Path):
    (tmp_path / "a.yaml").write_text("a: 1\nb: [1.5, x, true, null]\nc: {d: &anchor 2020-01-01}")
    assert read_yaml(tmp_path / "a.yaml")["b"] == [1.5, "x", True, None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, r"alias \*a is not allowed.*line 2"),
        ("a: &a {b: *a}", r"alias \*a is not allowed"),
        ("a: " + "[" * 2000, "levels of lists and mappings"),
        ("a: " + "{b: " * 40 + "1" + "}" * 40, "more than 32 levels"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("a: " + "x" * 1_000_001, "longer than 1,000,000 characters"),
        ("a: " + "9" * 5000, "a.yaml"),
        ("a: 2020-13-45", "month"),
        ("- 1", "does not hold names and values"),
        ("", "does not hold names and values"),
    ],
)
def test_anything_else_is_refused_in_one_line(text: str, message: str, tmp_path: Path):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        read_yaml(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path):
    (tmp_path / "a.yaml").write_bytes(b"a: \xff\xfe")
    with pytest.raises(InputError, match=r"a\.yaml is not YAML"):
        read_yaml(tmp_path / "a.yaml")


def test_a_text_is_parsed_with_the_same_limits():
    assert parse_yaml("[1, {a: b}]") == [1, {"a": "b"}]
    with pytest.raises(InputError, match="alias"):
        parse_yaml("[&a 1, *a]")


def test_no_other_module_parses_yaml():
    package = Path(pcloud.__file__).parent
    parsers = {
        file.relative_to(package).as_posix()
        for file in package.rglob("*.py")
        if re.search(r"yaml\.\w*load|SafeLoader", file.read_text(encoding="utf-8"))
    }
    assert parsers == {"yaml_files.py"}
