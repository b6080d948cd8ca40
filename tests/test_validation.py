"""Values of options against their types, in one line each."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Gt, Interval, Le, Lt

from pcloud.errors import InputError, UnknownNameError
from pcloud.validation import (
    Choice,
    accepted_types,
    choices,
    descriptions,
    parameters,
    type_name,
    validate,
)

COLOURS = ["red", "green"]
Colour = Annotated[str, Choice("colour", lambda: COLOURS, lambda name: name.startswith("#"))]
Animal = Annotated[str, Choice("animal", lambda: [f"animal_{i}" for i in range(20)])]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of this test."""

    number: Annotated[int, Ge(1), Le(10)] = 1
    """How often,
    in one line."""
    rate: Annotated[float, Gt(0), Lt(math.inf)] | None = None
    fraction: Annotated[float, Interval(gt=0, lt=1)] = 0.5
    """Fraction."""
    weight: Annotated[float, Interval(gt=0, le=1)] = 0.5
    seed: Annotated[int, Interval(ge=0, le=9)] = 0
    colour: Colour = "red"
    animal: Animal | None = None
    mode: Literal["fast", "slow"] = "fast"
    files: str | list[str] = "a"
    weights: Literal["none"] | list[float] = "none"
    mapping: dict[str, Any] = field(default_factory=dict)
    switch: bool = False


@dataclass(frozen=True, kw_only=True)
class More(Options):
    name: str
    """Name."""

    def __post_init__(self) -> None:
        if self.name == "bad":
            raise InputError("this name is bad")


def test_values_are_converted_to_their_types():
    values = {"number": "3", "rate": 2, "files": ["a", "b"], "weights": [1, "2"], "switch": "true"}
    options = validate(Options, values)
    assert (options.number, options.rate, options.files) == (3, 2.0, ["a", "b"])
    assert options.weights == [1.0, 2.0]
    assert options.switch is True
    assert options == Options(number=3, rate=2.0, files=["a", "b"], weights=[1, 2], switch=True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"number": 0}, "number must be at least 1, got 0"),
        ({"number": 10**9}, "number must be at most 10, got 1000000000"),
        ({"number": 2.5}, "--number: '2.5' cannot be used; expected INT"),
        ({"number": None}, "--number: 'None' cannot be used; expected INT"),
        ({"number": True}, "--number: 'True' cannot be used; expected INT"),
        ({"rate": 0}, "rate must be positive, got 0"),
        ({"rate": math.inf}, "rate must be finite, got inf"),
        ({"rate": math.nan}, "rate must be"),
        ({"fraction": 1.0}, "fraction must be between 0 and 1, got 1.0"),
        ({"weight": 2}, "weight must be above 0 and at most 1, got 2"),
        ({"seed": -1}, "seed must be between 0 and 9, got -1"),
        ({"colour": "gren"}, "--colour: 'gren' cannot be used; expected {red,green}; did you mean"),
        ({"animal": "animal_33"}, "no animal named 'animal_33'; did you mean 'animal_"),
        ({"mode": "fats"}, "expected {fast,slow}; did you mean 'fast'?"),
        ({"mode": 5}, "--mode: '5' cannot be used; expected {fast,slow}"),
        ({"files": ["a", 5]}, "--files[1]: '5' cannot be used; expected a valid string"),
        ({"weights": [1, "x"]}, "--weights[1]: 'x' cannot be used; expected a valid number"),
        ({"weights": "heavy"}, "--weights: 'heavy' cannot be used; expected {none}|NUMBER ..."),
        ({"mapping": 3}, "--mapping: '3' cannot be used; expected MAPPING"),
        ({"switch": "maybe"}, "--switch: 'maybe' cannot be used; expected {true,false}"),
        ({"numbr": 3}, "no option named 'numbr'; did you mean 'number'?"),
        ({"files": "x" * 1000 + "\n", "number": "x" * 1000}, "xxx...' cannot be used"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line(values: dict[str, Any], message: str):
    with pytest.raises(InputError) as error:
        validate(Options, values)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


def test_checks_of_a_dataclass_keep_their_message():
    with pytest.raises(InputError, match=r"^this name is bad$"):
        validate(More, {"name": "bad"})
    with pytest.raises(InputError, match=r"^name is missing$"):
        validate(More, {})


def test_a_choice_follows_its_registry():
    with pytest.raises(InputError):
        validate(Options, {"colour": "blue"})
    COLOURS.append("blue")
    try:
        assert validate(Options, {"colour": "blue"}).colour == "blue"
        assert choices(Colour) == ("red", "green", "blue")
    finally:
        COLOURS.remove("blue")
    assert validate(Options, {"colour": "#123"}).colour == "#123"


def test_an_unknown_choice_of_many_is_an_unknown_name():
    with pytest.raises(UnknownNameError):
        validate(Options, {"animal": "cat"})


def test_types_have_short_names():
    assert type_name(Annotated[int, Ge(0)] | None) == "INT"
    assert type_name(str | list[str] | None) == "TEXT ..."
    assert type_name(str | dict[str, Any]) == "TEXT|MAPPING"
    assert type_name(Literal["a", "b"] | None) == "{a,b}"
    assert type_name(Animal) == "TEXT"  # too many to list
    assert accepted_types(Annotated[int, Ge(0)] | list[str] | None) == {int, list, type(None)}


def test_the_string_under_a_field_is_its_description():
    assert descriptions(Options)["number"] == "How often, in one line."
    assert descriptions(More) == {
        "number": "How often, in one line.",
        "fraction": "Fraction.",
        "name": "Name.",
    }


def test_a_docstring_gives_type_default_and_meaning():
    text = parameters(More)
    assert "number : int, default 1\n    How often, in one line." in text
    assert "rate : float, optional" in text
    assert "mode : {'fast', 'slow'}, default 'fast'" in text
    assert "files : str or list of str, default 'a'" in text
    assert "name : str\n    Name." in text
