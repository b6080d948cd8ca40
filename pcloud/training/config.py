"""What a training run is made of: one dataclass per stage, `TrainConfig` is all of them.

The fields are flat, so that the command line (``--max-jets 1000``), YAML (``max_jets: 1000``) and
Python (``max_jets=1000``) use the same names; the string under a field is its command-line help.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from pcloud.errors import InputError, UnknownNameError
from pcloud.training.recipes import Recipe, default_recipe, get_recipe

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

__all__ = [
    "DataConfig",
    "DecorrelateConfig",
    "DistillConfig",
    "InitConfig",
    "ModelConfig",
    "OptimizerConfig",
    "RunConfig",
    "TrainConfig",
    "add_config_arguments",
    "read_schema",
]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which jets, and what of them the model sees."""

    data: str | list[str]
    """Training jets: a data set by name (see `pcloud datasets`), a file, a glob, or several."""
    val: str | list[str] | None = None
    """Validation jets; by default the data set's own split, or a part of the training jets."""
    test: str | list[str] | None = None
    """Test jets for `pcloud evaluate`; by default as for validation."""
    data_root: str | None = None
    """Folder of the public data sets; by default the environment variable PCLOUD_DATA."""
    schema: str | dict[str, Any] | None = None
    """Layout of the files: a name such as landscape or jetclass, or a YAML file or mapping with the
    fields of a JetSchema; by default recognised."""
    check_units: bool = True
    """Refuse files whose energies look as if they were not in the unit of the schema."""
    val_fraction: float = 0.1
    """Part of the training jets kept for validation when there is no validation file."""
    test_fraction: float = 0.1
    """Part of the training jets kept for testing when there is neither a validation nor a test
    file."""
    split_seed: int = 0
    """Seed of these parts; leave it when `seed` changes, and runs share their test jets."""
    max_jets: int | None = None
    """At most this many training jets, drawn at random."""
    max_val_jets: int | None = None
    """At most this many validation jets, drawn at random."""
    features: str | list[str] = "kin"
    """Input features: the name of a set, such as kin, or a list of features."""
    on_bad_jet: Literal["error", "drop"] = "error"
    """What to do with a jet that is empty or has NaN, infinite or negative energies."""

    def __post_init__(self) -> None:
        for name in ("val_fraction", "test_fraction"):
            _check(self, name, "between 0 and 1", 0 < getattr(self, name) < 1)
        if self.val_fraction + self.test_fraction >= 1:
            raise InputError("val_fraction and test_fraction leave no jets for training")
        for name in ("max_jets", "max_val_jets"):
            _check(self, name, "at least 1", getattr(self, name) is None or getattr(self, name) > 0)
        _check(self, "data", "a data set or at least one file", bool(self.data))
        _check(self, "features", "a set or at least one feature", bool(self.features))


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which network."""

    model: str
    """A model by name (see `pcloud models`), or your own as my_file:MyTagger."""
    model_options: dict[str, Any] = field(default_factory=dict)
    """Options of the model, one by one (--model-options.dropout 0.2) or as a mapping."""


@dataclass(frozen=True, kw_only=True)
class InitConfig:
    """Which weights to begin with, and which of them to keep."""

    init_from: str | None = None
    """Begin with the weights of a run, of its checkpoint (.ckpt), or of a file of the model's
    authors; by default random ones. Features and classes may be others: they go by name. Options
    of the model that are not given are those of the weights."""
    reset_head: bool = False
    """Give the network a new head, the last map, whose size goes with the classes."""
    freeze: str | list[str] | None = None
    """Parameters that stay as they are: names of parameters or modules (convs.0), globs
    (convs.*.weight), regular expressions after re:. Their batch normalisations keep their
    statistics."""

    def __post_init__(self) -> None:
        for name in ("reset_head", "freeze"):
            if getattr(self, name) and self.init_from is None:
                raise InputError(f"{name} needs init_from: random weights are new anyway")


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """Which tagger to learn from, beside the labels."""

    teacher: str | None = None
    """Folder of a trained run whose scores of the training jets are learned, with its features;
    by default the labels alone are."""
    distill_weight: float = 0.9
    """Part of the teacher in the loss; the rest is that of the labels."""
    temperature: float = 2.0
    """Divides the logits of teacher and student before they are compared."""

    def __post_init__(self) -> None:
        weight = self.distill_weight
        _check(self, "distill_weight", "above 0 and at most 1", 0 < weight <= 1)
        _check(self, "temperature", "positive", self.temperature > 0)
        for name in ("distill_weight", "temperature"):
            if self.teacher is None and getattr(self, name) != getattr(DistillConfig, name):
                raise InputError(f"{name} needs teacher: the run to learn from")


@dataclass(frozen=True, kw_only=True)
class DecorrelateConfig:
    """What the score shall not depend on."""

    decorrelate: Literal["mass", "pt", "multiplicity"] | None = None
    """Add the distance correlation of score and this variable over background jets to the loss."""
    decorrelate_weight: float = 1.5
    """Factor on it, which grows from 0 during the first half of the training; large batches make it
    a better estimate. The losses of the log contain the penalty with the whole factor."""
    decorrelate_background: str | None = None
    """Class of the background jets; by default the first."""

    def __post_init__(self) -> None:
        _check(self, "decorrelate_weight", "at least 0", self.decorrelate_weight >= 0)
        for name in ("decorrelate_weight", "decorrelate_background"):
            if self.decorrelate is None and getattr(self, name) != getattr(DecorrelateConfig, name):
                raise InputError(f"{name} needs decorrelate: the variable")


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How the weights are found."""

    recipe: str | None = None
    """Training that sets everything in this group that is not given, as published: particlenet,
    particlenet_original, particlenet_lite_original, particlenet_finetune, part, part_finetune,
    pfn, lorentznet, lgatr, lgatr_slim or pelican; or image, ours. By default the model's own, with
    init_from that for fine-tuning."""
    optimizer: Literal["ranger", "adamw", "lion"] | None = None
    """Optimizer; by default the recipe's."""
    schedule: Literal["constant", "flat_decay", "one_cycle", "restarts", "cosine"] | None = None
    """Learning-rate schedule over the whole run; by default the recipe's."""
    lr: float | None = None
    """Peak learning rate; by default the recipe's."""
    weight_decay: float | None = None
    """Decoupled weight decay, not on biases, normalisations and class tokens; by default the
    recipe's."""
    batch_size: int | None = None
    """Jets in a batch; by default the recipe's."""
    epochs: int | None = None
    """Passes over the training jets; by default the recipe's."""
    steps: int | None = None
    """Optimizer steps, in the place of epochs; by default the recipe's."""
    lr_head_factor: float | None = None
    """Factor on the learning rate of the head; by default the recipe's."""
    gradient_clip: float | None = None
    """Largest norm of the gradient, 0 for no clipping; by default the recipe's."""
    precision: Literal["float32", "bfloat16"] | None = None
    """Number type of the network: bfloat16 computes under autocast; by default the recipe's."""
    class_weights: Literal["none", "balanced"] | list[float] = "none"
    """Weights of the classes in the loss: none, balanced (inverse to their number of training
    jets), or one number per class."""

    def __post_init__(self) -> None:
        for name in ("lr", "batch_size", "lr_head_factor"):
            _check(self, name, "positive", getattr(self, name) > 0)
        for name in ("weight_decay", "epochs", "steps", "gradient_clip"):
            _check(self, name, "at least 0", getattr(self, name) >= 0)
        if bool(self.epochs) == bool(self.steps):
            raise InputError(
                f"give the length of the run as epochs or as steps, "
                f"got epochs={self.epochs} and steps={self.steps}"
            )
        if isinstance(self.class_weights, list):
            positive = all(weight >= 0 for weight in self.class_weights)
            _check(self, "class_weights", "at least 0", positive and any(self.class_weights))

    def resolved_recipe(self) -> Recipe:
        """What `recipe` and the options beside it come to."""
        names = [f.name for f in dataclasses.fields(Recipe) if f.name != "source"]
        return Recipe(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Where and how the run goes."""

    out: str
    """Folder of the run. An interrupted run continues from it with the same command."""
    seed: int = 0
    """Seed of the initial weights, of the order of the jets and of dropout."""
    deterministic: bool = False
    """Only algorithms that give the same bits every time, or an error where there is none."""
    monitor: Literal["val_loss", "val_acc", "val_auc"] = "val_loss"
    """What the best checkpoint is best in, and early stopping waits for."""
    patience: int | None = None
    """Stop when `monitor` has not improved for this many epochs; by default never."""
    accelerator: str = "auto"
    """Where to compute: auto, cpu, gpu, mps ..., as in Lightning."""
    devices: int | str = 1
    """Which device, as in Lightning: 1 for any one, '2,' for the third. Training uses one."""
    checkpoint_steps: int | None = None
    """Save the state of the run every so many steps, besides at each end of an epoch."""
    checkpoint_seconds: float | None = 60.0
    """Save the state of the run when so many seconds have passed since the last time."""
    keep_checkpoints: bool = False
    """Keep the weights after every epoch, as epoch_1.ckpt, ...: pcloud explain follows them."""
    ensemble: int = 1
    """Train so many members, the first from `seed`, the next from the number after it, each in a
    folder under members/; scores of the run are their mean."""
    workers: int = 1
    """Members trained side by side, sharing the processors."""

    def __post_init__(self) -> None:
        for name in ("patience", "checkpoint_steps", "checkpoint_seconds"):
            value = getattr(self, name)
            _check(self, name, "positive", value is None or value > 0)
        _check(self, "seed", "between 0 and 2^32 - 1", 0 <= self.seed < 2**32)
        _check(self, "out", "a folder", bool(self.out))
        for name in ("ensemble", "workers"):
            _check(self, name, "at least 1", getattr(self, name) >= 1)


_STAGES = (
    DataConfig,
    ModelConfig,
    InitConfig,
    DistillConfig,
    DecorrelateConfig,
    OptimizerConfig,
    RunConfig,
)

# A run may be continued elsewhere, and saved more or less often: its result does not depend on it.
_FREE = (
    "out",
    "data_root",
    "accelerator",
    "devices",
    "checkpoint_steps",
    "checkpoint_seconds",
    "keep_checkpoints",
    "workers",
)


@dataclass(frozen=True, kw_only=True)
class TrainConfig(
    DataConfig,
    ModelConfig,
    InitConfig,
    DistillConfig,
    DecorrelateConfig,
    OptimizerConfig,
    RunConfig,
):
    """Everything about a training run; complete, with the recipe's values filled in.

    Raises
    ------
    InputError
        If a value is out of range; `UnknownNameError` for a recipe that does not exist.
    """

    def __post_init__(self) -> None:
        self._fill_from_recipe()
        for stage in _STAGES:
            if hasattr(stage, "__post_init__"):
                stage.__post_init__(self)
        if self.decorrelate is not None and self.monitor != "val_loss":
            raise InputError(
                f"decorrelate needs monitor val_loss, which contains the penalty: {self.monitor} is "
                "best before the penalty has its full weight"
            )

    def _fill_from_recipe(self) -> None:
        name = self.recipe or default_recipe(self.model, pretrained=self.init_from is not None)
        given = dataclasses.asdict(get_recipe(name))
        if self.steps and self.epochs is None:
            given["epochs"] = 0
        if self.epochs and self.steps is None:
            given["steps"] = 0
        object.__setattr__(self, "recipe", name)
        for key, value in given.items():
            if key != "source" and getattr(self, key) is None:
                object.__setattr__(self, key, value)

    @classmethod
    def from_dict(cls, options: Mapping[str, Any]) -> TrainConfig:
        """Make a configuration from names and values, as from YAML, with their types checked.

        Raises
        ------
        InputError
            If a value has the wrong type or is out of range, or `data`, `model` or `out` is
            missing; `UnknownNameError` for an option that does not exist.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        for name in options:
            if name not in known:
                raise UnknownNameError("training option", str(name), known)
        missing = [name for name in ("data", "model", "out") if options.get(name) is None]
        if missing:
            raise InputError(f"training needs {' and '.join(missing)}")
        plain = {name: _plain(value) for name, value in options.items()}
        if plain.get("model_options"):
            plain["model_options"] = _current_options(plain, warn=True)
        if "schema" in plain:
            plain["schema"] = read_schema(plain["schema"])
        return cls(**_check_types(plain))

    @classmethod
    def from_file(cls, path: str | Path, **options: Any) -> TrainConfig:
        """Read a YAML file, such as a run's ``config.yaml``; `options` go before it."""
        return cls.from_dict(_read_yaml(Path(path)) | options)

    @classmethod
    def from_run(cls, folder: Path) -> TrainConfig:
        """Read the ``config.yaml`` of a run, whose options may have the names of an earlier version."""
        options = _read_yaml(folder / "config.yaml")
        if options.get("model_options"):
            options["model_options"] = _current_options(options, warn=False)
        return cls.from_dict(options)

    def to_dict(self) -> dict[str, Any]:
        """Names and values, in the order of the stages."""
        names = [f.name for stage in _STAGES for f in dataclasses.fields(stage)]
        return {name: getattr(self, name) for name in names}

    def to_yaml(self) -> str:
        """YAML of everything, defaults included, a comment over each stage."""
        values = self.to_dict()
        parts = []
        for stage in _STAGES:
            part = {f.name: values[f.name] for f in dataclasses.fields(stage)}
            title = (stage.__doc__ or "").strip()
            parts.append(f"# {title}\n" + yaml.safe_dump(part, sort_keys=False))
        return "\n".join(parts)

    def differences(self, other: TrainConfig) -> list[str]:
        """Names of the options that differ and matter for the result."""
        mine, theirs = self.to_dict(), other.to_dict()
        return [name for name in mine if name not in _FREE and mine[name] != theirs[name]]


def read_schema(schema: str | dict[str, Any] | None) -> str | dict[str, Any] | None:
    """A schema that is named as a YAML file as the mapping in it, any other as it is."""
    if isinstance(schema, str) and Path(schema).suffix in (".yaml", ".yml"):
        return _read_yaml(Path(schema))
    return schema


def add_config_arguments(parser: ArgumentParser) -> None:
    """Add an option for every field of `TrainConfig`, grouped by stage, to a parser."""
    for stage in _STAGES:
        group = parser.add_argument_group((stage.__doc__ or "").strip().rstrip("."))
        hints = get_type_hints(stage)
        helps = _strings_under_fields(stage)
        for f in dataclasses.fields(stage):
            group.add_argument(
                f"--{f.name.replace('_', '-')}",
                type=hints[f.name],
                **_switch(hints[f.name]),
                default=_default(f),
                metavar=_metavar(hints[f.name]),
                help=helps[f.name],
            )


@cache
def _strings_under_fields(stage: type) -> dict[str, str]:
    from docstring_parser import parse_from_object

    found = parse_from_object(stage).params
    return {p.arg_name: " ".join((p.description or "").split()) for p in found}


def one_line(error: Exception) -> str:
    """Say in one line what jsonargparse says in a paragraph."""
    message = str(error)
    name = re.search(r'[Kk]ey "([\w.]+)"', message)
    value = re.search(r"(?:Given|Got) value: (.*)", message, flags=re.DOTALL)
    if not name or not value:
        return " ".join(message.split())
    option = f"--{name[1].rpartition('.')[2].replace('_', '-')}"
    hint = get_type_hints(TrainConfig).get(name[1].rpartition(".")[2])
    expected = f"; expected {_metavar(hint)}" if hint else ""
    return f"{option}: {' '.join(value[1].split())!r} cannot be used{expected}"


def _current_options(options: Mapping[str, Any], *, warn: bool) -> dict[str, Any]:
    """Return the options of the model under their present names."""
    from pcloud.models.old_names import current_options

    try:
        return current_options(str(options["model"]), options["model_options"], warn=warn)
    except TypeError as error:
        raise InputError(f"model_options of {error}") from error


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} does not hold names and values")
    return content


def _check_types(options: dict[str, Any]) -> dict[str, Any]:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    add_config_arguments(parser)
    try:
        # as_dict gives model_options, an open mapping, back as it was
        return parser.parse_object(options).as_dict()
    except Exception as error:  # jsonargparse raises several kinds, all about the options
        raise InputError(one_line(error)) from error


def _plain(value: Any) -> Any:
    """Paths as strings, sequences as lists, a schema as a mapping: what YAML can hold."""
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value


def _switch(hint: Any) -> dict[str, Any]:
    """A switch may stand alone: --deterministic."""
    return {"nargs": "?", "const": True} if hint is bool else {}


def _default(f: dataclasses.Field) -> Any:
    if f.default_factory is not dataclasses.MISSING:
        return f.default_factory()
    return None if f.default is dataclasses.MISSING else f.default


def _metavar(hint: Any) -> str:
    """What to write for a value of a type: ``{a,b}``, ``INT``, ``TEXT ...``."""
    parts = [part for part in get_args(hint) if part is not type(None)]
    if get_origin(hint) is Literal:
        return f"{{{','.join(get_args(hint))}}}"
    if get_origin(hint) in (Union, UnionType):
        names = dict.fromkeys(_metavar(part) for part in parts)
        return "|".join(name for name in names if f"{name} ..." not in names)
    if get_origin(hint) is list:
        return f"{_metavar(parts[0])} ..."
    simple = {str: "TEXT", int: "INT", float: "NUMBER", bool: "{true,false}"}
    return simple.get(hint, "MAPPING")


def _check(config: Any, name: str, expected: str, holds: bool) -> None:
    if not holds:
        raise InputError(f"{name} must be {expected}, got {getattr(config, name)!r}")
