from __future__ import annotations

from typing import Any

import pytest

from pcloud.errors import InputError, UnknownNameError
from pcloud.objectives.specification import DEFAULT_LEVELS, Specification, parse_objectives
from pcloud.training.config import TrainConfig

GIVEN: dict[str, Any] = {"data": "simulated", "model": "pfn", "out": "run"}


def test_objectives_are_named_by_target_and_kind():
    wanted = ["class", "pt:gaussian", "mass:quantile:0.1,0.5,0.9", "eta:huber:2", "b:binary"]
    found = parse_objectives(wanted)
    assert [(part.target, part.kind) for part in found] == [
        ("class", "class"),
        ("pt", "gaussian"),
        ("mass", "quantile"),
        ("eta", "huber"),
        ("b", "binary"),
    ]
    assert found[1].levels == DEFAULT_LEVELS
    assert found[2].levels == (0.1, 0.5, 0.9)
    assert found[3].delta == 2


def test_a_mapping_gives_the_same_objective_as_a_text():
    values = {"target": "mass", "kind": "quantile", "levels": [0.1, 0.9]}
    assert Specification.parse(values) == Specification.parse("mass:quantile:0.1,0.9")


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ("mass", InputError, "such as mass:gaussian; kinds: squared"),
        ("mass:gausian", UnknownNameError, "did you mean 'gaussian'"),
        ("mass:squared:2", InputError, "squared takes no numbers"),
        ("mass:quantile:0,0.5", InputError, r"'mass': level 0 is not between 0 and 1"),
        ("mass:quantile:0.5,1.2", InputError, "level 1.2 is not between"),
        ("mass:quantile:nan", InputError, "level nan is not between"),
        ("mass:quantile:0.5,0.5", InputError, r"levels 0.5, 0.5 repeat"),
        ("mass:quantile:0.5,0.1", InputError, "0.5, 0.1 are not in increasing order"),
        ("mass:quantile:a", InputError, "'a' is not a number"),
        ("mass:huber:-1", InputError, "delta must be positive, got -1"),
        ({"target": "mass"}, InputError, "needs target and kind"),
        (
            {"target": "mass", "kind": "squared", "level": 1},
            UnknownNameError,
            "did you mean 'levels'",
        ),
        ({"target": "m", "kind": "squared", "transform": "lg"}, UnknownNameError, "mean 'log'"),
    ],
)
def test_an_objective_that_cannot_be_used_is_refused(value, error, message):
    with pytest.raises(error, match=message):
        parse_objectives([value])


def test_a_target_is_learned_once():
    with pytest.raises(InputError, match="'mass' is given twice"):
        parse_objectives(["mass:squared", "mass:gaussian"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "mass:squared", "teacher": "run"}, "teacher needs the objective class"),
        ({"objective": "mass:squared", "decorrelate": "mass"}, "decorrelate needs the objective"),
        ({"objective": "mass:squared", "reweight": "pt"}, "reweight needs the objective class"),
        ({"objective": "mass:squared", "class_weights": "balanced"}, "class_weights needs"),
        (
            {"objective": ["class", "m:squared"], "teacher": "run"},
            "needs the objective class alone",
        ),
        (
            {"objective": "mass:squared", "monitor": "val_acc"},
            "no metric to monitor named 'val_acc'",
        ),
        ({"monitor": "val_loss_mass"}, "'val_loss_mass'; did you mean 'val_loss'"),
        ({"objective_weights": [1.0, 2.0]}, "one number for each of 1 objectives"),
        ({"objective_weights": "learned"}, "learned needs several objectives"),
    ],
)
def test_options_that_do_not_fit_the_objective_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        TrainConfig(**GIVEN, **options)


def test_a_stated_metric_of_an_objective_can_be_monitored():
    objective = ["class", "mass:quantile"]
    for metric in ("val_loss_mass", "val_resolution_mass", "val_auc"):
        assert TrainConfig(**GIVEN, objective=objective, monitor=metric).monitor == metric
