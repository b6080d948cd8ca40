"""Flags from dataclasses, and the values of their words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, get_args, get_type_hints

import pytest

from pcloud.cli import calibrate, explain, program, uncertainty
from pcloud.cli.command import Argument, Flag, Switch
from pcloud.cli.parser import Parser, add_fields, complete, given_values
from pcloud.cli.train import overridden
from pcloud.errors import InputError, UnknownNameError
from pcloud.evaluation.calibration_maps import CALIBRATIONS
from pcloud.interpret.attribution import METHODS as ATTRIBUTIONS
from pcloud.studies.predictive import METHODS as SOURCES


@dataclass(frozen=True, kw_only=True)
class Base:
    file: Argument
    """Input."""
    quiet: Annotated[bool, Flag(short="-q", switch=True)] = False
    """Show nothing."""


@dataclass(frozen=True, kw_only=True)
class Options(Base):
    """Options of this test."""

    number: int = 3
    """Number, 50 % of all."""
    rate: float | None = None
    """Rate."""
    check: bool = True
    """Check."""
    ask: bool | None = None
    """Ask."""
    overwrite: Switch = False
    """Overwrite."""
    data: str | list[str] | None = None
    """Data."""
    numbers: list[float] = field(default_factory=lambda: [0.5])
    """Numbers."""
    schema: str | dict[str, Any] | None = None
    """Schema."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options."""
    devices: int | str = 1
    """Devices."""


def parse(*words: str) -> dict[str, Any]:
    parser = Parser(prog="test")
    add_fields(parser, Options)
    return given_values([Options], parser.parse_args([*words, "a.h5"]))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", {}),
        ("--number 4", {"number": 4}),
        ("--number many", {"number": "many"}),  # for the check of types
        ("--number null", {"number": "null"}),
        ("--rate 1e-3", {"rate": "1e-3"}),
        ("--rate=5", {"rate": 5}),
        ("--rate null", {"rate": None}),
        ("--rate -3", {"rate": -3}),
        ("--check -q", {"check": True, "quiet": True}),
        ("--check no -q", {"check": False, "quiet": True}),
        ("--ask false", {"ask": False}),
        ("--overwrite", {"overwrite": True}),
        ("--data a -q", {"data": "a", "quiet": True}),
        ("--data 5 -q", {"data": "5", "quiet": True}),
        ("--data a 5 -q", {"data": ["a", "5"], "quiet": True}),
        ("--data [a,b] -q", {"data": ["a", "b"], "quiet": True}),
        ("--data [ab -q", {"data": "[ab", "quiet": True}),
        ("--numbers 0.1 -q", {"numbers": [0.1], "quiet": True}),
        ("--numbers 0.1 1 -q", {"numbers": [0.1, 1], "quiet": True}),
        ("--numbers [0.1,1] -q", {"numbers": [0.1, 1], "quiet": True}),
        ("--schema {p4:,label:}", {"schema": {"p4": None, "label": None}}),
        ("--schema 5", {"schema": "5"}),
        ("--devices 2", {"devices": 2}),
        ("--devices 2,", {"devices": "2,"}),
        ("--options.a 1 --options.b=x", {"options.a": 1, "options.b": "x"}),
        ("--options.a 1e-3 --options.b null", {"options.a": 1e-3, "options.b": None}),
        ("--options.a.b [1,[2]]", {"options.a.b": [1, [2]]}),
        ("--options {a:}", {"options": {"a": None}}),
    ],
)
def test_words_become_values(words: str, expected: dict[str, Any]):
    assert parse(*words.split()) == {"file": "a.h5"} | expected


def test_defaults_are_filled_in_and_types_checked():
    options = complete([Options], parse("--rate", "1e-3"))
    assert options["rate"] == 1e-3
    assert (options["number"], options["numbers"], options["quiet"]) == (3, [0.5], False)
    assert set(options) == set(get_type_hints(Options))
    with pytest.raises(InputError, match="--number: 'many' cannot be used; expected INT"):
        complete([Options], parse("--number", "many"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--number", "-q"], "argument --number: expected one argument"),
        (["--optionz.a", "1"], "unrecognized arguments: --optionz.a"),
        (["--num", "3"], "unrecognized arguments: --num"),  # no abbreviations
    ],
)
def test_wrong_words_raise_instead_of_exiting(words: list[str], message: str):
    with pytest.raises(InputError, match=message):
        parse(*words)


def test_help_shows_names_types_defaults_and_meaning():
    parser = Parser(prog="test")
    add_fields(parser, Options)
    text = " ".join(parser.format_help().split())
    for expected in (
        "Options of this test:",
        "--number INT Number, 50 % of all. (default: 3)",
        "--check [{true,false}] Check. (default: true)",
        "--numbers NUMBER ... Numbers. (default: 0.5)",
        "--schema TEXT|MAPPING Schema.",
        "-q, --quiet Show nothing.",
        "file Input.",
    ):
        assert expected in text


def test_items_of_a_mapping_override_those_of_a_file():
    file = {"options": {"a": 1, "b": {"c": 2}}, "number": 3}
    given = {"number": 4, "options.a": 5, "options.d.e": 6}
    assert overridden(file, given) == {
        "number": 4,
        "options": {"a": 5, "b": {"c": 2}, "d": {"e": 6}},
    }
    assert overridden(file, {"options": {}})["options"] == {}
    assert overridden({"options": None}, {"options.a": 1})["options"] == {"a": 1}
    assert file == {"options": {"a": 1, "b": {"c": 2}}, "number": 3}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["predict", "run", "file", "--batch-sise", "3"], "did you mean '--batch-size'"),
        (["compare", "a", "b", "more"], "compare does not expect the argument 'more'"),
        (["evaluate", "--dta=3", "run"], "no option named '--dta'; did you mean '--data'"),
        (["--verbose"], "a command is missing: train"),
    ],
)
def test_unknown_arguments_name_the_nearest(words: list[str], message: str):
    with pytest.raises(InputError, match=message):
        program.parse(words)


def test_an_unknown_command_is_an_unknown_name():
    with pytest.raises(UnknownNameError, match="did you mean 'evaluate'"):
        program.parse(["evaluat", "run"])


def test_every_option_has_a_description():
    from pcloud.validation import descriptions, hints

    for command in program.COMMANDS.values():
        for stage in command.stages:
            assert set(descriptions(stage)) == set(hints(stage)), stage


def names_of(options: type, name: str) -> tuple[str, ...]:
    hint = get_type_hints(options)[name]
    literal = next(part for part in (hint, *get_args(hint)) if "Literal" in str(part)[:15])
    return get_args(literal)


def test_methods_are_those_of_the_studies():
    assert names_of(calibrate.CalibrateOptions, "method") == tuple(CALIBRATIONS)
    assert names_of(uncertainty.UncertaintyOptions, "method") == SOURCES
    assert get_args(explain.Method) == ("taylor", *ATTRIBUTIONS)
