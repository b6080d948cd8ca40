"""The configuration: the same from Python, YAML and the command line, and checked."""

from __future__ import annotations

import dataclasses
import inspect
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import pcloud
from pcloud.cli.program import parse
from pcloud.cli.train import overridden, read_options
from pcloud.errors import InputError, UnknownNameError
from pcloud.io import JetSchema
from pcloud.training import RECIPES, TrainConfig
from pcloud.training.config import STAGES, DataConfig, ModelConfig
from pcloud.training.optimizers import OPTIMIZERS
from pcloud.validation import default, descriptions

GIVEN: dict[str, Any] = {"data": "simulated", "model": "particlenet_lite", "out": "runs/a"}
EVERYTHING: dict[str, Any] = GIVEN | {
    "data": ["a.root", "b.root"],
    "val": "c.root",
    "schema": "jetclass",
    "max_jets": 1000,
    "features": ["log_pt", "deta"],
    "on_bad_jet": "drop",
    "model_options": {"dropout": 0.2, "k": 7, "widths": [[32, 32]]},
    "recipe": "part",
    "lr": 3e-4,
    "class_weights": [1.0, 2.5],
    "deterministic": True,
    "patience": 3,
    "seed": 7,
}


def from_command_line(options: dict[str, Any]) -> TrainConfig:
    words = ["train"]
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}", yaml.safe_dump(value, default_flow_style=True)]
    words = [word.removesuffix("\n").removesuffix("\n...") for word in words]
    return TrainConfig.from_dict(parse(words)[1])


@pytest.mark.parametrize("options", [GIVEN, EVERYTHING])
def test_python_yaml_and_the_command_line_give_the_same(
    options: dict[str, Any], tmp_path: Path
) -> None:
    config = TrainConfig.from_dict(options)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(options))
    assert TrainConfig(**options) == config
    assert TrainConfig.from_file(tmp_path / "config.yaml") == config
    assert from_command_line(options) == config


@pytest.mark.parametrize("options", [GIVEN, EVERYTHING])
def test_what_is_written_reads_back(options: dict[str, Any], tmp_path: Path) -> None:
    config = TrainConfig.from_dict(options)
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    assert TrainConfig.from_file(tmp_path / "config.yaml") == config
    assert set(yaml.safe_load(config.to_yaml())) == set(config.to_dict())


def test_the_recipe_fills_in_what_is_not_given() -> None:
    config = TrainConfig(**GIVEN, recipe="part", lr=0.5)
    assert config.lr == 0.5
    assert config.weight_decay == RECIPES["part"].weight_decay == 0.01
    assert config.precision == "bfloat16"
    recipe = config.resolved_recipe()
    assert (recipe.batch_size, recipe.epochs, recipe.steps) == (512, 20, 0)


def test_epochs_and_steps_stand_in_for_each_other() -> None:
    assert TrainConfig(**GIVEN, recipe="lgatr").steps == 200_000
    by_epochs = TrainConfig(**GIVEN, recipe="lgatr", epochs=3)
    assert (by_epochs.epochs, by_epochs.steps) == (3, 0)
    by_steps = TrainConfig(**GIVEN, recipe="part", steps=50)
    assert (by_steps.epochs, by_steps.steps) == (0, 50)
    with pytest.raises(InputError, match="epochs=3 and steps=50"):
        TrainConfig(**GIVEN, epochs=3, steps=50)


def test_a_schema_of_ones_own_is_kept_whole(tmp_path: Path) -> None:
    schema = JetSchema(p4={"pt": "pt", "eta": "eta", "phi": "phi"}, label="y", unit="MeV")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(schema.to_dict()))
    from_value = TrainConfig.from_dict(GIVEN | {"schema": schema})
    from_file = TrainConfig.from_dict(GIVEN | {"schema": str(tmp_path / "mine.yaml")})
    assert from_value == from_file
    assert JetSchema.from_dict(yaml.safe_load(from_file.to_yaml())["schema"]) == schema


def test_only_what_changes_the_result_counts_as_a_difference() -> None:
    a = TrainConfig(**GIVEN)
    b = TrainConfig(**GIVEN | {"out": "runs/b"}, checkpoint_steps=7, accelerator="cpu")
    assert a.differences(b) == []
    c = TrainConfig(**GIVEN | {"model": "pfn"}, seed=3)
    assert {"model", "seed", "recipe", "lr", "batch_size"} == set(a.differences(c))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": "fast"}, "--lr: 'fast'.*NUMBER"),
        ({"lr": -1.0}, "lr must be positive, got -1.0"),
        ({"epochs": 2.5}, "--epochs: '2.5'.*INT"),
        ({"epochs": -2}, "epochs must be at least 0, got -2"),
        ({"batch_size": 0}, "batch_size must be positive, got 0"),
        ({"optimizer": "sdg"}, "no optimizer named 'sdg'; did you mean 'sgd'"),
        ({"deterministic": "maybe"}, "--deterministic: 'maybe'.*{true,false}"),
        ({"class_weights": "heavy"}, "--class-weights: 'heavy'.*{none,balanced}"),
        ({"class_weights": [1.0, -1.0]}, "class_weights must be at least 0"),
        ({"val_fraction": 1.5}, "val_fraction must be between 0 and 1, got 1.5"),
        ({"val_fraction": 0.5, "test_fraction": 0.5}, "leave no jets for training"),
        ({"max_jets": 0}, "max_jets must be at least 1, got 0"),
        ({"on_bad_jet": "ignore"}, "--on-bad-jet: 'ignore'.*{error,drop}"),
        ({"data": []}, "data must be a data set or at least one file"),
        ({"model": None}, "training needs model"),
        ({"patience": 0}, "patience must be positive, got 0"),
        ({"seed": -1}, "seed must be between"),
        ({"recipe": "particlnet"}, "did you mean 'particlenet'"),
        ({"leraning_rate": 0.1}, "no training option named 'leraning_rate'"),
        ({"max_jet": 5}, "did you mean 'max_jets'"),
        ({"schema": "absent.yaml"}, "absent.yaml"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises((InputError, FileNotFoundError), match=message) as error:
        TrainConfig.from_dict(GIVEN | options)
    assert "\n" not in str(error.value)


def test_an_unknown_option_is_an_unknown_name() -> None:
    with pytest.raises(UnknownNameError):
        TrainConfig.from_dict(GIVEN | {"lrr": 1})


@pytest.mark.parametrize("text", ["a: [1", "- 1\n- 2", "5"])
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(InputError, match=r"c\.yaml"):
        TrainConfig.from_file(tmp_path / "c.yaml")


def test_files_by_class_on_the_command_line() -> None:
    words = [
        "train",
        "--model",
        "pfn",
        "--out",
        "a",
        "--data",
        "top=/t_1.h5",
        "/t_2.h5",
        "qcd=/q.h5",
    ]
    config = TrainConfig.from_dict(parse([*words, "--val", "top=/v.h5"])[1])
    assert config.data == {"top": ["/t_1.h5", "/t_2.h5"], "qcd": ["/q.h5"]}
    assert config.val == {"top": ["/v.h5"]}
    assert config.with_absolute_paths("/other").data == config.data
    assert TrainConfig.from_dict(config.to_dict() | {"data": ["/a.h5", "/b.h5"]}).data[1] == "/b.h5"


def test_a_switch_needs_no_value_on_the_command_line() -> None:
    given = ["train", "--data", "a.h5", "--model", "pfn", "--out", "a", "--init-from", "b"]
    for switch, expected in ((["--reset-head"], True), (["--reset-head", "false"], False)):
        _, options = parse([*given, *switch, "--seed", "3"])
        assert TrainConfig.from_dict(options).reset_head is expected


def test_options_are_read_from_their_stage_or_directly() -> None:
    config = TrainConfig(**GIVEN, lr=0.5, model_options={"dropout": 0.1})
    assert config.optimization.lr == config.lr == 0.5
    assert config.network == ModelConfig(model="particlenet_lite", model_options={"dropout": 0.1})
    with pytest.raises(AttributeError, match="no attribute 'learning_rate'"):
        _ = config.learning_rate
    assert {"lr", "optimization", "with_options"} <= set(dir(config))
    assert pickle.loads(pickle.dumps(config)) == config


def test_a_configuration_is_composed_of_stages() -> None:
    config = TrainConfig(**GIVEN, seed=7)
    stages = {name: getattr(config, name) for name in STAGES}
    assert TrainConfig(**stages) == config
    assert TrainConfig(**stages, seed=8) == config.with_options(seed=8)
    assert dataclasses.replace(config, seed=8) == config.with_options(seed=8)
    with pytest.raises(InputError, match="max_jets must be at least 1"):
        TrainConfig(**stages | {"inputs": DataConfig(data="simulated", max_jets=0)})


def test_no_option_belongs_to_two_stages() -> None:
    names = [f.name for stage in STAGES.values() for f in dataclasses.fields(stage)]
    assert len(names) == len(set(names))
    assert not set(names) & set(STAGES)


def test_registered_names_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPTIMIZERS, "mine", OPTIMIZERS["adamw"])
    assert TrainConfig(**GIVEN, optimizer="mine").optimizer == "mine"
    assert TrainConfig(**GIVEN | {"model": "my_file:MyTagger"}).model == "my_file:MyTagger"
    for options, message in (
        ({"model": "particlnet"}, "no model named 'particlnet'; did you mean 'particlenet'?"),
        ({"features": "kinpd"}, "no feature set named 'kinpd'; did you mean 'kinpid'?"),
        ({"schedule": "cosin"}, "did you mean 'cosine'?"),
    ):
        with pytest.raises(InputError, match=re.escape(message)):
            TrainConfig(**GIVEN | options)


def test_numbers_of_other_libraries_and_empty_values_are_accepted() -> None:
    config = TrainConfig(
        **GIVEN, seed=np.int64(3), lr=np.float32(0.5), class_weights=np.ones(2), monitor=None
    )
    assert (config.seed, config.lr, config.class_weights) == (3, 0.5, [1.0, 1.0])
    assert config.monitor == "val_loss"


def test_a_file_with_aliases_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("data: &a [x, y]\nval: *a\nmodel: pfn\nout: z")
    with pytest.raises(InputError, match=r"c\.yaml.*alias \*a is not allowed"):
        TrainConfig.from_file(tmp_path / "c.yaml")


OLD = """\
# Which jets, and what of them the model sees.
data: simulated
val: null
schema: null
check_units: true
max_jets: 400

# Which network.
model: particlenet_lite
model_options:
  dropout: 0.2

# How the weights are found.
recipe: particlenet_lite_original
optimizer: adamw
lr: 0.01
epochs: 1
steps: 0
class_weights:
- 1.0
- 2.0

# Where and how the run goes.
out: oldrun
devices: 1
checkpoint_seconds: .inf
"""


def test_configurations_of_earlier_versions_load(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(OLD)
    config = TrainConfig.from_file(tmp_path / "config.yaml")
    for name, value in yaml.safe_load(OLD).items():
        assert getattr(config, name) == value


def test_the_command_line_overrides_a_file_whatever_their_order(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(GIVEN | {"seed": 5, "model_options": {"dropout": 0.5, "k": 3}}))
    for words in (["--config", str(path), "--seed", "6"], ["--seed", "6", "--config", str(path)]):
        _, options = parse(["train", *words, "--model-options.k", "4"])
        config = TrainConfig(**overridden(read_options(options.pop("config")), options))
        assert config.seed == 6
        assert config.model_options == {"dropout": 0.5, "k": 4}


def test_the_documentation_of_train_has_every_option() -> None:
    text = inspect.getdoc(pcloud.train) or ""
    for stage in STAGES.values():
        for f in dataclasses.fields(stage):
            entry = re.search(rf"^{f.name} : (.*)\n((    .+\n?)+)", text, re.MULTILINE)
            assert entry, f"pcloud.train does not document {f.name}"
            value = default(f)
            if value not in (dataclasses.MISSING, None):
                assert entry[1].endswith(f"default {value!r}")
            assert " ".join(entry[2].split()) == descriptions(stage)[f.name]
