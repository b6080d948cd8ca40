"""Expressions against Python's own evaluation of the same text, and their two evaluators."""

from __future__ import annotations

import contextlib
import functools
import math
import operator

import awkward as ak
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcloud.errors import InputError
from pcloud.expressions import Expression
from pcloud.expressions.arrays import evaluate
from pcloud.expressions.tensors import evaluate as evaluate_tensors
from pcloud.expressions.vocabulary import FUNCTIONS

PT = [[4.5, 2.0, 0.5], [], [7.25], [1.0, 3.0]]
ID = [[211, -13, 22], [], [5], [0, -211]]
JET = [10.0, 20.0, 8.0, 5.0]
JETS = {
    "pt": ak.values_astype(ak.Array(PT), np.float64),
    "id": ak.values_astype(ak.Array(ID), np.int32),
    "jet_pt": np.array(JET),
    "entry": np.array([3, 4, 5, 2**53 + 1], dtype=np.uint64),
}


def tensors_of(expression: str):
    counts = torch.tensor([len(jet) for jet in PT])
    particles = {
        "pt": torch.tensor(functools.reduce(operator.iadd, PT, [])).double(),
        "id": torch.tensor(functools.reduce(operator.iadd, ID, [])),
    }
    jets = {"jet_pt": torch.tensor(JET).double(), "entry": torch.tensor([3, 4, 5, 2**53 + 1])}
    batch = torch.repeat_interleave(counts)
    return evaluate_tensors(expression, particles, jets, batch, len(PT))


@contextlib.contextmanager
def double_precision():
    """Functions of integers in float64: the sine of a large number amplifies its rounding."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def flat(array) -> np.ndarray:
    return ak.to_numpy(ak.flatten(array, axis=None))


FUNCTIONS_OF_NUMBERS = {
    "sin": math.sin,
    "tanh": math.tanh,
    "arctan": math.atan,
    "abs": abs,
    "floor": math.floor,
    "hypot": math.hypot,
    "arctan2": math.atan2,
    "minimum": min,
    "maximum": max,
    "where": lambda condition, x, y: x if condition else y,
}
"""Functions of the vocabulary with the one of Python that is the same."""

numbers = st.sampled_from(["pt", "id", "jet_pt", "2", "0.5", "-3"])


def calls(children):
    def infix(symbols):
        return st.tuples(children, st.sampled_from(symbols), children).map(
            lambda parts: f"({parts[0]} {parts[1]} {parts[2]})"
        )

    one = st.tuples(st.sampled_from(["sin", "tanh", "arctan", "abs", "floor"]), children)
    two = st.tuples(st.sampled_from(["hypot", "arctan2", "minimum"]), children, children)
    chosen = st.tuples(children, children, children, children)
    return st.one_of(
        infix(["+", "-", "*"]),
        one.map(lambda parts: f"{parts[0]}({parts[1]})"),
        two.map(lambda parts: f"{parts[0]}({parts[1]}, {parts[2]})"),
        chosen.map(lambda p: f"where({p[0]} < {p[1]}, {p[2]}, {p[3]})"),
        chosen.map(lambda p: f"where({p[0]} <= {p[1]} != {p[2]}, {p[3]}, {p[0]})"),
        st.tuples(children, children).map(lambda p: f"({p[0]} if {p[1]} > 0 else -{p[0]})"),
    )


@settings(max_examples=200, deadline=None)
@given(st.recursive(numbers, calls, max_leaves=8))
def test_values_are_those_of_python_for_each_particle(text):
    expected = [
        eval(text, {"pt": pt, "id": pdg, "jet_pt": jet, **FUNCTIONS_OF_NUMBERS})
        for pts, ids, jet in zip(PT, ID, JET, strict=True)
        for pt, pdg in zip(pts, ids, strict=True)
    ]
    # a value of each particle whatever the columns
    both = f"({text}) + 0 * pt"
    np.testing.assert_allclose(flat(evaluate(both, JETS)), expected, rtol=1e-9, atol=1e-9)
    with double_precision():
        np.testing.assert_allclose(tensors_of(both).numpy(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "text",
    [
        "pt > 1 and id != 22",
        "not (pt > 1 or id == 211)",
        "(pt > 1) & (abs(id) == 211) | (id == 5)",
        "~(pt > 1) ^ (id > 0)",
        "id & 3",
        "id % 4",
        "id // 4",
        "entry % 2",
        "entry == 9007199254740993",
        "entry - 9007199254740992",
        "id in [211, -211, 5]",
        "id not in (22,)",
        "1 < pt <= 4.5",
        "pt ** 2 / jet_pt",
        "2 ** 3 ** 2 + 0 * pt",
        "-pt ** 2",
        "isfinite(log(pt - 2)) or isnan(pt)",
        "clip(pt, 1, 3)",
        "wrap_phi(pt + 3)",
        "int(pt) + int(-pt)",
        "round(pt)",
        "max(pt, jet_pt / 4)",
        "min(pt, 2.5)",
        "log1p(exp(pt)) + expm1(-pt) + sqrt(pt) + log2(pt) + log10(jet_pt)",
        "sinh(arcsinh(pt)) + cosh(tanh(pt))",
        "sum(pt)",
        "sum(pt > 1)",
        "mean(pt)",
        "max(pt)",
        "min(id)",
        "first(pt) / jet_pt",
        "num(pt)",
        "any(id == 211)",
        "all(pt > 0.75)",
        "pt / sum(pt)",
        "sum(where(abs(id) == 211, pt, 0)) / jet_pt",
        "pi + inf * jet_pt",
        "True + jet_pt",
    ],
)
def test_arrays_and_tensors_give_the_same(text):
    ours, tensors = flat(evaluate(text, JETS)), tensors_of(text)
    assert len(ours) == len(tensors)
    np.testing.assert_allclose(tensors.double().numpy(), ours.astype(float), rtol=1e-6)


def test_reductions_are_those_of_each_jet_and_defined_without_particles():
    jets = {name: evaluate(f"{name}(pt)", JETS).to_list() for name in ("sum", "num", "any", "all")}
    assert jets["sum"] == [7.0, 0.0, 7.25, 4.0]
    assert jets["num"] == [3, 0, 1, 2]
    assert jets["any"] == [True, False, True, True]
    assert jets["all"] == [True, True, True, True]
    for name, expected in (("min", 0.5), ("max", 4.5), ("mean", 7 / 3), ("first", 4.5)):
        values = evaluate(f"{name}(pt)", JETS)
        assert values[0] == pytest.approx(expected)
        assert np.isnan(values[1])


def test_event_numbers_stay_exact():
    large = np.array([2**63 + 1, 2**63 + 2, 7], dtype=np.uint64)
    jets = {"event": large}
    assert evaluate("event == 9223372036854775809", jets).to_list() == [True, False, False]
    assert evaluate("event % 5", jets).to_list() == [int(n) % 5 for n in large.tolist()]
    assert evaluate("event + 0", jets).to_numpy().tolist() == large.tolist()


def test_words_are_compared():
    jets = {"flavour": ak.Array(["b", "c", "light", "b"]), "pt": JETS["pt"]}
    assert evaluate("flavour == 'b'", jets).to_list() == [True, False, False, True]
    assert evaluate("flavour in ['b', 'c']", jets).to_list() == [True, True, False, True]
    with pytest.raises(InputError, match="a text is compared with a number"):
        evaluate("flavour == 5", jets)
    with pytest.raises(InputError, match=r"add\(\) takes numbers, not texts"):
        evaluate("flavour + 1", jets)


def test_derivatives_pass_through():
    pt = torch.tensor(
        functools.reduce(operator.iadd, PT, []), dtype=torch.float64, requires_grad=True
    )
    batch = torch.repeat_interleave(torch.tensor([len(jet) for jet in PT]))

    def function(pt):
        return evaluate_tensors("log(pt / sum(pt)) + max(pt)", {"pt": pt}, {}, batch, len(PT))

    assert torch.autograd.gradcheck(function, (pt,))


def test_columns_are_named_in_the_order_of_the_text():
    assert Expression("log(b / a) + column('the c') + sum(b) + sv.pt").columns == (
        *("b", "a", "the c", "sv.pt"),
    )


def test_a_column_goes_before_a_constant_of_its_name():
    assert evaluate("pi", {"pi": np.array([1.0])}).to_list() == [1.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pt +", r"expression 'pt \+': invalid syntax"),
        ("", "expression ''"),
        (
            "logg(pt)",
            r"no function named 'logg' in the expression 'logg\(pt\)'; did you mean 'log'",
        ),
        ("__import__('os')", "no function named '__import__'"),
        ("pt.__class__()", "is not arithmetic, a column or a function"),
        ("(lambda: 1)()", "is not arithmetic"),
        ("[x for x in pt]", "is not arithmetic"),
        ("pt[0]", r"first\(x\) is the first"),
        ("hypot(pt)", r"hypot\(\) takes 2 arguments, not 1"),
        ("clip(pt, low=1, high=2)", "no arguments by name"),
        ("pt @ id", "operator MatMult"),
        ("pt is id", "operator Is"),
        ("id in pt", r"membership needs .* isin\(x, \[1, 2\]\)"),
        ("isin(id, [pt])", "only numbers or texts"),
        ("b'x' + pt", "neither a number nor a text"),
        ("1j * pt", "neither a number nor a text"),
        ("f'{pt}'", "is not arithmetic"),
        ("(pt := 3)", "is not arithmetic"),
        ("-" * 200 + "pt", "nested more than 60 times"),
        ("(" * 3000, "expression"),
        ("pt + " * 2000 + "pt", "at most 4000 characters"),
    ],
)
def test_anything_else_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        Expression(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ptt + 1", "no column named 'ptt'.*did you mean 'pt'"),
        ("sum(jet_pt)", r"sum\(\) takes values of particles, not one value per jet"),
        ("pt + sv_pt", "the particles of particles and sv cannot be combined"),
        ("pt & 1", "comparisons beside them need brackets"),
        ("int(pt / 0)", r"int\(\) takes finite numbers"),
        ("missing + 1", "column 'missing' has missing values"),
        ("record + 1", "column 'record' holds"),
        ("deep + 1", "column 'deep' has 3 dimensions"),
        ("short + pt", "the columns '[a-z]+' and '[a-z]+' have different numbers of particles"),
    ],
)
def test_columns_that_do_not_fit_are_named(text, message):
    jets = {
        **JETS,
        "sv_pt": ak.Array([[1.0], [2.0], [], []]),
        "missing": ak.Array([1, None, 2, 3]),
        "record": ak.Array([{"x": 1}] * 4),
        "deep": ak.Array([[[1.0]]] * 4),
        "short": ak.Array([[1.0], [], [1.0], [1.0]]),
    }
    with pytest.raises(InputError, match=message):
        evaluate(text, jets, {"sv_pt": "sv"})


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                *FUNCTIONS,
                *"()[]{},.:;=<>!&|^~+-*/%@#'\"\\ \n\t0123456789",
                "pt",
                "id",
                "jet_pt",
                "and",
                "or",
                "not",
                "in",
                "if",
                "else",
                "lambda",
                "1e999",
                "0x",
                "\x00",
                "é",
                "entry",
            ]
        ),
        max_size=40,
    ).map("".join)
)
def test_any_text_is_an_expression_or_refused(text):
    with contextlib.suppress(InputError):
        evaluate(text, JETS)


def test_nothing_is_executed():
    attempts = ["exec('x')", "eval('1')", "open('f')", "pt.__class__", "().__class__.__bases__"]
    for text in attempts:
        with pytest.raises(InputError):
            evaluate(text, JETS)


def test_comparisons_are_those_of_python_beyond_the_range_of_floats():
    jets = {"event": np.array([2**53, 2**53 + 1], dtype=np.int64)}
    for name in ("lt", "le", "gt", "ge", "eq", "ne"):
        symbol = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}[name]
        expected = [getattr(operator, name)(n, 2**53 + 1) for n in (2**53, 2**53 + 1)]
        assert evaluate(f"event {symbol} {2**53 + 1}", jets).to_list() == expected
