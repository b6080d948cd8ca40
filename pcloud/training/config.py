"""Configuration of a training run: one dataclass per stage, composed in `TrainConfig`.

The command line (``--max-jets 1000``), YAML (``max_jets: 1000``) and Python (``max_jets=1000``)
use the same flat names. The string under a field is its help on the command line and its
description in the docstring of :func:`pcloud.train`; its type carries the bounds and choices that
a value is checked against.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar

import yaml
from annotated_types import Ge, Gt, Interval, Le, Lt

from pcloud.errors import InputError, UnknownNameError
from pcloud.objectives.specification import (
    CLASS,
    CLASS_LOSSES,
    GENERATE,
    Specification,
    parse_objectives,
)
from pcloud.run_files import CONFIG_FILE
from pcloud.stored_values import PlainOptions
from pcloud.training.folds import Fold
from pcloud.training.optimizers import OPTIMIZERS
from pcloud.training.recipes import RECIPES, Recipe, default_recipe, get_recipe
from pcloud.training.schedules import SCHEDULES
from pcloud.validation import Choice, accepted_types, flag, hints, parameters, validate
from pcloud.yaml_files import read_yaml

__all__ = [
    "STAGES",
    "DataConfig",
    "DecorrelateConfig",
    "DistillConfig",
    "InitConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "OptimizerConfig",
    "ReweightConfig",
    "RunConfig",
    "TrainConfig",
    "files_by_class",
    "overridden",
    "read_schema",
    "with_labels",
]

Function = TypeVar("Function")


def _models() -> list[str]:
    from pcloud.modality import list_modalities
    from pcloud.models.registry import list_models

    return [name for kind in list_modalities() for name in list_models(kind)]


def _feature_sets() -> Iterable[str]:
    from pcloud.features import FEATURE_SETS

    return FEATURE_SETS


ModelName = Annotated[str, Choice("model", _models, lambda name: ":" in name, listed=False)]
FeatureSetName = Annotated[
    str, Choice("feature set", _feature_sets, lambda name: not name.isidentifier(), listed=False)
]
RecipeName = Annotated[str, Choice("recipe", lambda: RECIPES)]
OptimizerName = Annotated[str, Choice("optimizer", lambda: OPTIMIZERS)]
ScheduleName = Annotated[str, Choice("schedule", lambda: SCHEDULES)]

ClassLoss = Annotated[str, Choice("loss", lambda: CLASS_LOSSES)]

Metric = Annotated[
    str,
    Choice(
        "metric",
        lambda: ("val_loss", "val_acc", "val_auc"),
        lambda name: name.startswith(
            (
                "val_loss_",
                "val_resolution_",
                "val_auc_",
                "val_acc_",
                "val_efficiency_",
                "val_purity_",
            )
        ),
    ),
]

# Upper bounds are far above any use: a file of options cannot ask for endless work.
Seed = Annotated[int, Interval(ge=0, le=2**32 - 1)]
NumJets = Annotated[int, Ge(1), Le(10**12)]
BatchSize = Annotated[int, Gt(0), Le(10**7)]
BatchParticles = Annotated[int, Gt(0), Le(10**10)]
NumEpochs = Annotated[int, Ge(0), Le(10**6)]
NumSteps = Annotated[int, Ge(0), Le(10**12)]
Patience = Annotated[int, Gt(0), Le(10**6)]
Period = Annotated[int, Gt(0), Le(10**12)]
NumMembers = Annotated[int, Ge(1), Le(1000)]
Positive = Annotated[float, Gt(0), Lt(math.inf)]
NonNegative = Annotated[float, Ge(0), Lt(math.inf)]
Fraction = Annotated[float, Interval(gt=0, lt=1)]
Weight = Annotated[float, Interval(gt=0, le=1)]
Share = Annotated[float, Interval(ge=0, le=1)]


Files = str | list[str] | dict[str, str | list[str]]
"""Name of a data set, files, or files of each class by its name."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Jets and features."""

    data: Files
    """Training jets: name of a data set (see `pcloud datasets`), file, glob, or several of
    these. Files of one class each are given by class: top=top_*.root qcd=qcd_*.root, in Python
    as a dictionary; in Python also an awkward array of jets."""
    val: Files | None = None
    """Validation jets; by default the validation split of the data set, or a part of the training
    jets."""
    test: Files | None = None
    """Test jets for `pcloud evaluate`; by default as for validation."""
    data_root: str | None = None
    """Folder of the public data sets; by default the environment variable PCLOUD_DATA."""
    schema: str | dict[str, Any] | None = None
    """Layout of the files: a name such as landscape or jetclass, or a YAML file or mapping with the
    fields of a JetSchema; by default detected."""
    labels: str | None = None
    """File with the labels of an array in an .npy file, which needs a schema; by default y.npy of
    x.npy. It becomes a part of the schema."""
    check_units: bool = True
    """Refuse files whose energies do not seem to be in the unit of the schema."""
    val_fraction: Fraction = 0.1
    """Fraction of the training jets used for validation when there is no validation file."""
    test_fraction: Fraction = 0.1
    """Fraction of the training jets used for testing when there is neither a validation nor a test
    file."""
    split: Literal["key", "permutation"] = "key"
    """Method of the random splits: key takes jets by a hash of their content, so that no jet moves
    when files are added, renamed or reordered; permutation is that of runs before, which are
    continued with it."""
    split_seed: Seed = 0
    """Seed of the random splits. Runs with the same value share their test jets, whatever their
    `seed`."""
    fold: str | None = None
    """Part of the jets for testing, such as 2/5: the second of five parts, by the keys of the jets,
    in the place of `test_fraction`. `pcloud evaluate --merge` joins the scores of all folds."""
    max_jets: NumJets | None = None
    """Maximum number of training jets, drawn at random; by default all."""
    overfit: NumJets | None = None
    """Check of a network: train on this number of jets, which are the validation jets, too. At the
    end a message says if the network has learned them by heart, which it should be able to."""
    max_val_jets: NumJets | None = None
    """Maximum number of validation jets, drawn at random; by default all."""
    features: FeatureSetName | list[str | dict[str, Any]] = "kin"
    """Input features: name of a feature set, such as kin, or a list of feature sets, features,
    columns and expressions, such as log(pt / jet_pt); a mapping sets shift, scale, low or high."""
    jet_features: list[str | dict[str, Any]] | None = None
    """Features with one value per jet, as for `features`, such as jet_mass or max(pt). Networks that
    take features of jets get them beside the pooled particles, others for each particle."""
    collections: str | list[str | dict[str, Any]] | dict[str, Any] | None = None
    """Further collections of the schema, such as secondary vertices, as inputs beside the particles:
    by default all of them; none; names (sv lost); or features for each, as for `features`
    ({sv: [default, flight]}), where default stands for kinematic features of entries with momenta,
    otherwise for angles and columns."""
    standardise: Literal["auto", "none"] = "auto"
    """Standardisation of features that have no official one: auto takes median and spread of the
    training jets; none takes the values as they are."""
    on_bad_jet: Literal["error", "drop"] = "error"
    """Treatment of jets that are empty or have NaN, infinite or negative energies."""
    canvas: Annotated[int, Interval(ge=1, le=10**5)] | None = None
    """Of images: side in pixels of a black image, in which each image is placed at a random position;
    by default images stay as they are."""
    turned: Literal["any", "quarter"] | None = None
    """Of images: rotate each by a random angle, or by a multiple of 90 degrees, in equal numbers for
    each class and angle; by default no rotation. Rotations that change from epoch to epoch are those
    of the model rotated."""
    storage: Literal["auto", "memory", "map", "stream"] = "auto"
    """Place of the jets during the training: memory; map, files in the folder of the run that are
    mapped into memory; or stream, the Parquet files of the jets, which are read in every epoch. By
    default the first of these that is large enough."""
    memory_limit: Positive | None = None
    """Memory in GB that the jets can take; by default what is free."""
    stream_workers: Annotated[int, Interval(ge=0, le=1000)] = 0
    """Number of processes that read a stream for each device; 0 reads between the steps. The order
    of the jets depends on it."""

    def __post_init__(self) -> None:
        part = self.part
        if self.val_fraction + (1 / part.number if part else self.test_fraction) >= 1:
            names = f"val_fraction and {f'fold {part}' if part else 'test_fraction'}"
            raise InputError(f"{names} leave no jets for training")
        if part is not None and (self.val is not None or self.test is not None):
            raise InputError(
                "fold draws the test jets from the training jets: leave out val and test"
            )
        if part is not None and self.split != "key":
            raise InputError("fold needs split: key")
        if not self.data:
            raise InputError(f"data must be a data set or at least one file, got {self.data!r}")
        if not self.features:
            raise InputError(
                f"features must be a set or at least one feature, got {self.features!r}"
            )

    @property
    def part(self) -> Fold | None:
        """Part of the jets for testing, from `fold`."""
        return None if self.fold is None else Fold.parse(self.fold)

    @property
    def test_numbers(self) -> tuple[int, int] | None:
        """Range of the random numbers of the test jets, of a fold."""
        return None if self.part is None else self.part.numbers


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Network."""

    model: ModelName
    """Name of a model (see `pcloud models`), or your own class as my_file:MyTagger."""
    model_options: PlainOptions = field(default_factory=dict)
    """Options of the model, one by one (--model-options.dropout 0.2) or as a mapping."""
    as_images: bool = False
    """Make an image of each jet for a model on images: the model becomes jet_images, with this network
    and the options of both."""

    # Not options: texts that a file gave, perhaps names of code that is not the user's; the file.
    _stored = frozenset[str]()
    _place = "the configuration"


def _only_classes() -> list[str | dict[str, Any]]:
    return [CLASS]


def _check_mix(mix: list[float] | None) -> None:
    """Check the fractions of the second class in two mixed samples."""
    if mix is not None and (len(mix) != 2 or not mix[0] < mix[1]):
        raise InputError(
            f"mix must be two fractions of the second class, the smaller one first, such as 0 0.05, "
            f"got {' '.join(f'{part:g}' for part in mix)}"
        )


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """Objective."""

    objective: str | list[str | dict[str, Any]] = field(default_factory=_only_classes)
    """What the network learns: class, and targets of the schema with their kinds, such as class
    pt:gaussian mass:quantile. Kinds: squared, absolute, huber, logcosh, gaussian (mean and sigma),
    quantile (mass:quantile:0.1,0.5,0.9 sets the levels) and binary (a label 0 or 1); of labels of
    particles classes (origin:classes) and pairs with the same label (vertex:pairs). generate learns to
    make new jets, with a generator as model. anomaly learns the first class alone, with an anomaly
    detector as model, whose score is large for others. A mapping sets
    target, kind, levels, delta, transform, widths and threshold."""
    objective_weights: Literal["equal", "learned"] | list[NonNegative] = "equal"
    """Weights of several objectives in the loss: equal, learned with the network, or one number
    each."""
    mix: list[Share] | None = None
    """Weak supervision of two classes: fractions of the second class in two mixed samples of equal
    size, which are told apart in place of the classes, such as 0 0.05 (injected signal) or 0.3 0.7.
    Each training jet is in one of them. Test jets keep their labels."""
    loss: ClassLoss = "cross_entropy"
    """Loss of the classes: cross_entropy; l1 or l2, the absolute or squared differences of the
    probabilities from 0 and 1; or focal, a cross-entropy with less weight of jets that are classified well."""

    def __post_init__(self) -> None:
        given: Any = self.objective
        given = [given] if isinstance(given, str) else given
        object.__setattr__(self, "objective", given)
        number = len(self.specifications)
        weights = self.objective_weights
        if isinstance(weights, list):
            if len(weights) != number or not any(weights):
                raise InputError(
                    f"objective_weights must be one number for each of {number} objectives, not all "
                    f"0, got {weights}"
                )
        elif weights == "learned" and number == 1:
            raise InputError("objective_weights learned needs several objectives, got one")
        _check_mix(self.mix)
        if self.mix is not None and not self.has_classes:
            raise InputError("mix needs the objective class")

    @property
    def specifications(self) -> list[Specification]:
        """The objectives, checked."""
        return parse_objectives(self.objective)

    @property
    def generates(self) -> bool:
        """True for a generator."""
        return any(part.generates for part in self.specifications)

    @property
    def has_classes(self) -> bool:
        """True if the classes of the labels are learned."""
        return any(part.learns_classes for part in self.specifications)

    @property
    def detects_anomalies(self) -> bool:
        """True for an anomaly detector."""
        return any(part.detects_anomalies for part in self.specifications)


@dataclass(frozen=True, kw_only=True)
class InitConfig:
    """Initial weights."""

    init_from: str | None = None
    """Initial weights: a run, its checkpoint (.ckpt), a file published by the authors of the model, or
    the name of one to download, such as particlenet/jetclass_kin; by default random. Features and classes are matched by name and may differ. Options of
    the model that are not given are those of the weights."""
    reset_head: bool = False
    """Initialise the head, the last linear map, at random."""
    freeze: str | list[str] | None = None
    """Parameters that are not trained: names of parameters or modules (convs.0), globs
    (convs.*.weight), or regular expressions after re:. Batch normalisations among them keep their
    statistics."""

    def __post_init__(self) -> None:
        for name in ("reset_head", "freeze"):
            if getattr(self, name) and self.init_from is None:
                raise InputError(f"{name} needs init_from: random weights are new anyway")


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """Distillation."""

    teacher: str | None = None
    """Folder of a trained run with the same features, whose scores are learned in addition to the
    labels; by default none."""
    distill_weight: Weight = 0.9
    """Weight of the teacher in the loss; the labels have the remaining weight."""
    temperature: Positive = 2.0
    """Divisor of the logits of teacher and student before they are compared."""

    def __post_init__(self) -> None:
        for name in ("distill_weight", "temperature"):
            if self.teacher is None and getattr(self, name) != getattr(DistillConfig, name):
                raise InputError(f"{name} needs teacher: the run to learn from")


@dataclass(frozen=True, kw_only=True)
class DecorrelateConfig:
    """Decorrelation."""

    decorrelate: Literal["mass", "pt", "multiplicity"] | None = None
    """Variable from which the score is decorrelated: the loss includes the distance correlation of
    both over background jets; by default none."""
    decorrelate_weight: NonNegative = 1.5
    """Weight of this penalty, which grows from 0 during the first half of the training. Large
    batches estimate it better. Logged losses include the penalty with its full weight."""
    decorrelate_background: str | None = None
    """Class of the background jets; by default the first."""

    def __post_init__(self) -> None:
        for name in ("decorrelate_weight", "decorrelate_background"):
            if self.decorrelate is None and getattr(self, name) != getattr(DecorrelateConfig, name):
                raise InputError(f"{name} needs decorrelate: the variable")


@dataclass(frozen=True, kw_only=True)
class ReweightConfig:
    """Weights of the training jets."""

    reweight: str | None = None
    """Observables of jets, such as pt or pt,mass, whose spectra of all classes are made equal by
    weights of the training jets; by default none."""
    reweight_max: Annotated[float, Gt(1), Le(10**6)] = 20.0
    """Largest factor of these weights, relative to the mean of the class."""


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Optimization."""

    recipe: RecipeName | None = None
    """Published training, which sets every option of this group that is not given (image is our
    own); by default that of the model, with init_from that for fine-tuning. cms_ak4 and gn2 set
    network and objective, too."""
    optimizer: OptimizerName | None = None
    """Optimizer; by default that of the recipe."""
    schedule: ScheduleName | None = None
    """Learning-rate schedule over the whole run; by default that of the recipe."""
    lr: Positive | None = None
    """Peak learning rate; by default that of the recipe."""
    weight_decay: NonNegative | None = None
    """Weight decay, not applied to biases, normalisations and class tokens; by default that of the
    recipe. It is decoupled from the gradient for ranger, adamw and lion, and an L2 term of the loss,
    its half times the sum of squares, for the others."""
    l1: NonNegative = 0.0
    """Factor of the sum of the absolute values of the weights in the loss, without biases."""
    batch_size: BatchSize | Literal["full"] | None = None
    """Number of jets per batch, or full for all jets in each step; by default that of the recipe."""
    batch_particles: BatchParticles | None = None
    """Largest number of particles in a batch, for large clouds or clouds of very different sizes;
    batch_size is then the mean number of jets at most. By default it is not bounded."""
    epochs: NumEpochs | None = None
    """Number of passes over the training jets; by default that of the recipe."""
    steps: NumSteps | None = None
    """Number of optimizer steps, instead of epochs; by default that of the recipe."""
    lr_head_factor: Positive | None = None
    """Factor on the learning rate of the head; by default that of the recipe."""
    gradient_clip: NonNegative | None = None
    """Maximum norm of the gradient, 0 for no clipping; by default that of the recipe."""
    precision: Literal["float32", "bfloat16"] | None = None
    """Floating-point type of the network: bfloat16 uses autocast; by default that of the recipe."""
    class_weights: Literal["none", "balanced"] | list[float] = "none"
    """Weights of the classes in the loss: none, balanced (inversely proportional to their number
    of training jets), or one number per class."""

    def __post_init__(self) -> None:
        weights = self.class_weights
        if isinstance(weights, list):
            usable = all(0 <= weight < math.inf for weight in weights)
            if not usable or not any(weights):
                raise InputError(f"class_weights must be at least 0 and not all 0, got {weights}")

    def with_recipe(self, name: str) -> OptimizerConfig:
        """Fill the options that are not given from a recipe.

        Raises
        ------
        InputError
            If the length of the run is given both as epochs and as steps, or is 0.
        UnknownNameError
            If there is no such recipe.
        """
        recipe = get_recipe(name)
        values = {option: getattr(recipe, option) for option in Recipe.optimization()}
        if self.steps and self.epochs is None:
            values["epochs"] = 0
        if self.epochs and self.steps is None:
            values["steps"] = 0
        missing = {key: value for key, value in values.items() if getattr(self, key) is None}
        complete = dataclasses.replace(self, recipe=name, **missing)
        if bool(complete.epochs) == bool(complete.steps):
            raise InputError(
                f"give the length of the run as epochs or as steps, "
                f"got epochs={complete.epochs} and steps={complete.steps}"
            )
        return complete

    def resolved_recipe(self) -> Recipe:
        """Return the recipe with the options given beside it; none may be missing."""
        return Recipe(**{name: getattr(self, name) for name in Recipe.optimization()})


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Run."""

    out: str
    """Folder of the run. The same command continues an interrupted run from its folder."""
    seed: Seed = 0
    """Seed of the initial weights, the order of the jets and dropout."""
    deterministic: bool = False
    """Use only algorithms that give the same bits every time; an error where there is none."""
    monitor: Metric = "val_loss"
    """Metric that selects the best checkpoint and drives early stopping; of several objectives also
    the loss of one, such as val_loss_mass, and of a target its resolution, val_resolution_mass."""
    patience: Patience | None = None
    """Number of epochs without improvement of `monitor` after which training stops; by default
    unlimited."""
    accelerator: str = "auto"
    """Device type as in Lightning: auto, cpu, gpu, mps, ..."""
    devices: int | str = 1
    """Device as in Lightning: 1 for any one, '2,' for the third. Several devices are used by the
    processes that torchrun or srun starts, each of which takes one."""
    checkpoint_steps: Period | None = None
    """Number of steps between saved states of the run, in addition to those after each epoch."""
    checkpoint_seconds: Annotated[float, Gt(0)] | None = 60.0
    """Time in seconds between saved states of the run."""
    keep_checkpoints: bool = False
    """Keep the weights of every epoch (epoch_1.ckpt, ...), which pcloud explain then compares."""
    layer_norms: bool = False
    """Record activations and gradients of each layer in the first batch of every epoch; the report
    draws them."""
    ensemble: NumMembers = 1
    """Number of members of an ensemble, with consecutive seeds from `seed`, each in a folder under
    members/; scores of the run are their mean."""
    workers: NumMembers = 1
    """Number of members trained at the same time; they share the processors."""

    def __post_init__(self) -> None:
        if not self.out:
            raise InputError(f"out must be a folder, got {self.out!r}")


# A run may be continued elsewhere, or with other checkpoints: its result does not depend on them.
_WITHOUT_EFFECT = (
    "out",
    "data_root",
    "memory_limit",
    "accelerator",
    "devices",
    "checkpoint_steps",
    "checkpoint_seconds",
    "keep_checkpoints",
    "layer_norms",
    "workers",
)


_SOURCES = ("data", "val", "test")
_FILE_OF_CLASS = re.compile(r"(?P<name>[\w.+-]+)=(?P<path>.+)")

_PATHS = ("data", "val", "test", "data_root", "init_from", "teacher", "out")


@dataclass(frozen=True, init=False)
class TrainConfig:
    """Complete configuration of a training run, with the values of the recipe filled in.

    It is made from the options of all stages (``TrainConfig(data=..., model=..., out=...,
    lr=1e-3)``), from whole stages, or from both, and is checked. An option is read from its stage
    (``config.optimization.lr``) or directly (``config.lr``).

    Parameters
    ----------
    inputs : DataConfig
        Jets and features.
    network : ModelConfig
        Network.
    objectives : ObjectiveConfig
        Objective.
    initialisation : InitConfig
        Initial weights.
    distillation : DistillConfig
        Distillation.
    decorrelation : DecorrelateConfig
        Decorrelation.
    reweighting : ReweightConfig
        Weights of the training jets.
    optimization : OptimizerConfig
        Optimization; complete.
    run : RunConfig
        Run.
    **options
        Fields of the stages; they take precedence over the stages.

    Raises
    ------
    InputError
        If a value has the wrong type or is out of range, or `data`, `model` or `out` is missing;
        `UnknownNameError` for an option, model, recipe, optimizer, schedule or feature set that
        does not exist.
    """

    inputs: DataConfig
    network: ModelConfig
    objectives: ObjectiveConfig
    initialisation: InitConfig
    distillation: DistillConfig
    decorrelation: DecorrelateConfig
    reweighting: ReweightConfig
    optimization: OptimizerConfig
    run: RunConfig

    def __init__(self, **options: Any) -> None:
        values: dict[str, Any] = {}
        network = options.get("network", ModelConfig)
        for name in STAGES:
            if name in options:
                values |= _values(options.pop(name))
        values |= options
        for name in values:
            if name not in _STAGE_OF:
                raise UnknownNameError("training option", str(name), _STAGE_OF)
        values = _with_recipe(values)
        if values.get("model") is None and GENERATE in _listed(values.get("objective")):
            values["model"] = _GENERATOR
        missing = [name for name in ("data", "model", "out") if values.get(name) is None]
        if missing:
            raise InputError(f"training needs {' and '.join(missing)}")
        from pcloud.given_jets import name_of  # imports awkward, and help does not need it

        values |= {name: name_of(values[name]) for name in _SOURCES if name in values}
        values = {name: _plain(value) for name, value in values.items()}
        values = _with_images_of_jets(values)
        values["schema"] = with_labels(
            read_schema(values.get("schema")), values.pop("labels", None)
        )
        for name in _SOURCES:
            if name in values:
                values[name] = files_by_class(values[name])
        for name, stage in STAGES.items():
            part = {
                key: values[key]
                for key, hint in hints(stage).items()
                if values.get(key) is not None
                or (key in values and NoneType in accepted_types(hint))
            }
            object.__setattr__(self, name, validate(stage, part))
        recipe = self.optimization.recipe or default_recipe(
            self.network.model, pretrained=self.initialisation.init_from is not None
        )
        object.__setattr__(self, "optimization", self.optimization.with_recipe(recipe))
        if self.decorrelation.decorrelate is not None and self.run.monitor != "val_loss":
            raise InputError(
                "decorrelate needs monitor val_loss, which contains the penalty: "
                f"{self.run.monitor} is best before the penalty has its full weight"
            )
        self._check_objectives()
        self._mark(network._stored - _names_of_code(options), network._place)

    def _check_objectives(self) -> None:
        """Check that other options fit what is learned."""
        wanted = self.objectives.specifications
        if not self.objectives.has_classes:
            needing = {"teacher": self.teacher, "decorrelate": self.decorrelate}
            needing |= {"reweight": self.reweight}
            needing["class_weights"] = None if self.class_weights == "none" else True
            needing["overfit"] = self.overfit
            needing["loss"] = None if self.objectives.loss == "cross_entropy" else True
            for name, value in needing.items():
                if value is not None:
                    raise InputError(
                        f"{name} needs the objective class; this run learns "
                        f"{', '.join(part.target for part in wanted)}"
                    )
        elif self.objectives.detects_anomalies:
            self._check_one_class()
        elif self.teacher is not None and len(wanted) > 1:
            raise InputError("teacher needs the objective class alone: a teacher knows classes")
        known = _metrics(wanted)
        if self.monitor not in known:
            raise UnknownNameError("metric to monitor", self.monitor, known)

    def _check_one_class(self) -> None:
        """Refuse options that need several classes beside an anomaly detector."""
        given = {name: getattr(self, name) is not None for name in _OF_SEVERAL_CLASSES}
        given["class_weights"] = self.class_weights != "none"
        given["loss"] = self.objectives.loss != "cross_entropy"
        for name, is_given in given.items():
            if is_given:
                raise InputError(
                    f"{name} needs the objective class; anomaly learns one class alone"
                )

    def __getattr__(self, name: str) -> Any:
        stage = self.__dict__.get(_STAGE_OF.get(name, ""))
        if stage is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(stage, name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *_STAGE_OF})

    @classmethod
    def from_dict(cls, options: Mapping[str, Any]) -> TrainConfig:
        """Make a configuration from names and values, as from YAML.

        Raises
        ------
        InputError
            As for the class.
        """
        values = {str(name): value for name, value in options.items()}
        return cls(**_with_present_names(values, warn=True))

    @classmethod
    def from_file(cls, path: str | Path, **options: Any) -> TrainConfig:
        """Read a YAML file, such as the ``config.yaml`` of a run; `options` override the file."""
        values = _with_effect(read_yaml(path)) | options
        with _file_named(path):
            return cls.from_dict(values)._with_names_of(path, options)

    def with_options(self, **options: Any) -> TrainConfig:
        """Return a copy with other values of some options."""
        stages = {name: getattr(self, name) for name in STAGES}
        return type(self)(**stages | options)

    @classmethod
    def from_run(cls, folder: Path) -> TrainConfig:
        """Read the ``config.yaml`` of a run, whose options may have the names of an earlier version.

        Relative paths are relative to the file. A run before splits by keys has no option `split`:
        its splits are permutations, and its relative paths are relative to the current folder. A run
        without the option `standardise` has no standardisation from training jets, and one without
        the option `collections` has none.
        """
        path = folder / CONFIG_FILE
        options = _with_present_names(_with_effect(read_yaml(path)), warn=False)
        with _file_named(path):
            old = {"standardise": "none", "collections": "none"} | options
            if "split" in options:
                config = cls.from_dict(old).with_absolute_paths(folder)
            else:
                config = cls.from_dict(old | {"split": "permutation"})
        return config._with_names_of(folder, {})

    @classmethod
    def from_command(
        cls, options: Mapping[str, Any], path: str | Path, given: Mapping[str, Any]
    ) -> TrainConfig:
        """Make a configuration of the `options` of a file, some of them `given` by the user instead.

        Parameters
        ----------
        options : mapping
            All options.
        path : str or path
            The file.
        given : mapping
            Options that the user gave; those of mappings may be called ``model_options.network``.
        """
        return cls.from_dict(_with_effect(dict(options), given))._with_names_of(path, given)

    def code_names(self) -> AbstractContextManager[None]:
        """Context in which the model of this configuration is built.

        Python code that the user named may run in it; that named by a file only if the user has
        trained with it. See :mod:`pcloud.models.trust`.
        """
        from pcloud.models.trust import stored_names  # takes seconds, and help does not need it

        given = _names_of_code(_values(self.network)) - self.network._stored
        return stored_names(self.network._place, given)

    def trusting_code(self) -> TrainConfig:
        """Return a copy whose Python code may run, whoever named it."""
        copy = self.with_options()
        copy._mark(frozenset(), self.network._place)
        return copy

    def _with_names_of(self, place: str | Path, given: Mapping[str, Any]) -> TrainConfig:
        """Mark the names that are not `given` as those of a file at `place`; return itself."""
        self._mark(_names_of_code(_values(self.network)) - _names_of_code(given), str(place))
        return self

    def _mark(self, stored: frozenset[str], place: str) -> None:
        object.__setattr__(self.network, "_stored", stored)
        object.__setattr__(self.network, "_place", place)

    def with_absolute_paths(self, folder: str | Path = "") -> TrainConfig:
        """Return a copy with absolute paths of files and folders, as written to ``config.yaml``.

        Parameters
        ----------
        folder : path
            Folder to which relative paths are relative, by default the current one.
        """
        values = {name: getattr(self, name) for name in _PATHS}
        return self.with_options(**{n: _absolute(v, folder) for n, v in values.items()})

    def to_dict(self) -> dict[str, Any]:
        """Return the names and values of all options, in the order of the stages."""
        return {name: getattr(self, name) for name in _STAGE_OF}

    def to_yaml(self) -> str:
        """Return all options as YAML, defaults included, with a comment above each stage."""
        parts = []
        for name, stage in STAGES.items():
            values = yaml.safe_dump(_values(getattr(self, name)), sort_keys=False)
            parts.append(f"# {stage.__doc__}\n{values}")
        return "\n".join(parts)

    def resolved_recipe(self) -> Recipe:
        """Return the recipe with the options given beside it."""
        return self.optimization.resolved_recipe()

    def effective(self) -> dict[str, Any]:
        """Return the names and values of the options that influence the result."""
        values = {n: v for n, v in self.to_dict().items() if n not in _WITHOUT_EFFECT}
        # jets in memory and mapped ones give the same result
        return values | {"storage": "stream" if self.storage == "stream" else "auto"}

    def differences(self, other: TrainConfig) -> list[str]:
        """Names of the options that differ and influence the result."""
        mine, theirs = self.effective(), other.effective()
        return [name for name in mine if mine[name] != theirs[name]]


_OF_SEVERAL_CLASSES = ("teacher", "decorrelate", "reweight", "overfit", "mix")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


_GENERATOR = "flow_matching"
"""Network of the objective generate, by default."""


def _with_recipe(values: dict[str, Any]) -> dict[str, Any]:
    """Return options with the network and objectives of their recipe, where they are not given.

    The weights of objectives belong to those of the recipe.
    """
    if not isinstance(values.get("recipe"), str):
        return values
    further = get_recipe(values["recipe"]).further
    if values.get("objective") is not None:
        further.pop("objective_weights", None)
    return values | {name: v for name, v in further.items() if values.get(name) is None}


def _with_images_of_jets(values: dict[str, Any]) -> dict[str, Any]:
    """Return options in which `as_images` has put a model on images into the model `jet_images`.

    Raises
    ------
    InputError
        If the model takes no images.
    """
    from pcloud.models.registry import list_models

    if values.get("as_images") not in (True, "true"):
        return values
    name = values["model"]
    if name == "jet_images":
        return values | {"as_images": False}
    known = list_models("image")
    if ":" not in str(name) and name not in known:
        raise InputError(
            f"as_images needs a model on images, such as {', '.join(known)}; got {name}"
        )
    options = {"network": name} | (values.get("model_options") or {})
    return values | {"model": "jet_images", "model_options": options, "as_images": False}


STAGES: dict[str, type] = hints(TrainConfig)
"""The dataclass of each stage, by its name in `TrainConfig`."""

_STAGE_OF = {f.name: name for name, stage in STAGES.items() for f in dataclasses.fields(stage)}


_QUANTITIES = {
    "binary": ("auc",),
    "classes": ("acc", "auc"),
    "pairs": ("efficiency", "purity"),
    "masked": (),
}
"""Metrics of the kinds of objectives that have no resolution."""


def _metrics(wanted: list[Specification]) -> list[str]:
    """Names of the metrics that a training with these objectives can monitor."""
    names = ["val_loss"]
    for part in wanted:
        if part.detects_anomalies:
            continue
        if part.generates:
            names += ["val_loss_particles", "val_loss_jet"]
        elif part.learns_classes:
            names += ["val_acc", "val_auc"]
        else:
            quantities = _QUANTITIES.get(part.kind, ("resolution",))
            names += [f"val_{quantity}_{part.target}" for quantity in quantities]
    return names + ([f"val_loss_{part.target}" for part in wanted] if len(wanted) > 1 else [])


def read_schema(schema: str | dict[str, Any] | None) -> str | dict[str, Any] | None:
    """Return the mapping in a YAML file where a schema names one, otherwise the schema itself."""
    if isinstance(schema, str) and Path(schema).suffix in (".yaml", ".yml"):
        return read_yaml(schema)
    return schema


def with_labels(
    schema: str | dict[str, Any] | None, labels: str | None
) -> str | dict[str, Any] | None:
    """Return a schema with the file of the labels of an array in an ``.npy`` file.

    Raises
    ------
    InputError
        If there is such a file, and no schema with the columns of the array.
    """
    if labels is None:
        return schema
    if not isinstance(schema, dict):
        raise InputError(
            "labels in a second file need a schema with the columns of the array, such as "
            "p4: {pt: 'X[0]', eta: 'X[1]', phi: 'X[2]'}"
        )
    return {"label": "y", **schema, "labels": str(Path(labels).absolute())}


def files_by_class(files: Any) -> Any:
    """Return files of the form ``top=top_1.root top_2.root qcd=qcd.root`` as a dictionary by class.

    Other files, and names of data sets, are returned as they are.
    """
    words = [files] if isinstance(files, str) else files
    if not isinstance(words, list) or not words:
        return files
    matches = [_FILE_OF_CLASS.fullmatch(word) if isinstance(word, str) else None for word in words]
    if matches[0] is None or Path(words[0]).exists():
        return files
    by_class: dict[str, list[str]] = {}
    for word, match in zip(words, matches, strict=True):
        if match:
            name = match["name"]
        by_class.setdefault(name, []).append(match["path"] if match else word)
    return by_class


def document_options(function: Function) -> Function:
    """Replace ``{options}`` in the docstring of a function by the options of a training run."""
    # From Python 3.13 on the compiler removes the indentation of docstrings: here, for all versions.
    text = inspect.cleandoc(function.__doc__ or "")
    function.__doc__ = text.replace("{options}", parameters(*STAGES.values()))
    return function


def overridden(options: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Return `options` with those of `others` in their place, items of mappings one by one.

    Parameters
    ----------
    options : mapping
        Options by name.
    others : mapping
        Options by name; ``model_options.dropout`` is an item of `model_options`.

    Raises
    ------
    InputError
        If an item is given of an option that is no mapping.
    """
    result = {**options} | {name: value for name, value in others.items() if "." not in name}
    for path, value in others.items():
        name, _, key = path.partition(".")
        if key:
            present = result.get(name) or {}
            if not isinstance(present, dict):
                raise InputError(f"{flag(path)} is an item of a mapping, and {name} is {present!r}")
            result[name] = present | _nested(key, value)
    return result


def _nested(path: str, value: Any) -> dict[str, Any]:
    key, _, rest = path.partition(".")
    return {key: _nested(rest, value) if rest else value}


def _absolute(value: Any, folder: str | Path) -> Any:
    """Return paths as absolute ones; None and the names of data sets stay."""
    from pcloud.datasets import list_datasets
    from pcloud.datasets.sources import list_sources
    from pcloud.given_jets import is_given
    from pcloud.io.remote import is_remote

    if isinstance(value, list):
        return [_absolute(item, folder) for item in value]
    if isinstance(value, Mapping):
        return {name: _absolute(item, folder) for name, item in value.items()}
    names = {*list_datasets(), *list_sources()}
    if value is None or is_given(value) or is_remote(value) or value in names:
        return value
    path = Path(folder, Path(value).expanduser())
    return os.path.abspath(path)  # noqa: PTH100 (resolve() would follow links that users may move)


@contextlib.contextmanager
def _file_named(path: str | Path) -> Iterator[None]:
    """Context that puts the name of a file before the message of an error about its options."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _values(stage: Any) -> dict[str, Any]:
    return {f.name: getattr(stage, f.name) for f in dataclasses.fields(stage)}


def _names_of_code(options: Mapping[str, Any]) -> frozenset[str]:
    """All texts in the options of the model, each of which may name code."""

    def texts(value: Any) -> Iterator[str]:
        if isinstance(value, Mapping):
            for item in value.values():
                yield from texts(item)
        elif isinstance(value, list | tuple):
            for item in value:
                yield from texts(item)
        elif isinstance(value, str | Path):
            yield str(value)

    names = ("model", "model_options")
    given = {key: value for key, value in options.items() if key.partition(".")[0] in names}
    return frozenset(texts(given))


_REFINED = {
    "teacher": ("distill_weight", "temperature"),
    "decorrelate": ("decorrelate_weight", "decorrelate_background"),
}
"""Options that have an effect only with another one."""


def _with_effect(options: dict[str, Any], given: Iterable[str] = ()) -> dict[str, Any]:
    """Return the options of a file without those that have no effect.

    A complete file has values of all options, which may be the defaults of an earlier version.

    Parameters
    ----------
    options : dict
        All options.
    given : iterable of str
        Names of options that the user gave, which are kept.
    """
    unused = {
        name
        for option, names in _REFINED.items()
        if option in options and options[option] is None
        for name in names
    }
    return {name: value for name, value in options.items() if name not in unused - {*given}}


def _with_present_names(options: dict[str, Any], *, warn: bool) -> dict[str, Any]:
    """Return the options with those of the model under their present names."""
    from pcloud.models.old_names import current_options

    if not options.get("model") or not isinstance(options.get("model_options"), Mapping):
        return options
    try:
        current = current_options(str(options["model"]), options["model_options"], warn=warn)
    except TypeError as error:
        raise InputError(f"model_options of {error}") from error
    return options | {"model_options": current}


def _plain(value: Any) -> Any:
    """Return a value as YAML can hold it: paths as strings, sequences as lists."""
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    if getattr(value, "ndim", None) == 0:  # a number of numpy or torch
        return value.item()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
