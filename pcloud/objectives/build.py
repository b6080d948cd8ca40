"""Objectives from what a user names, and from a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from annotated_types import Interval, Len
from torch import Tensor
from typing_extensions import NotRequired, TypedDict

from pcloud.batch.masking import NUM_COORDINATES
from pcloud.errors import InputError, UnknownNameError
from pcloud.objectives.anomaly import Anomaly
from pcloud.objectives.classes import Classes
from pcloud.objectives.gaussian import Gaussian
from pcloud.objectives.generation import Generation
from pcloud.objectives.label import Label
from pcloud.objectives.masked import MaskedParticles
from pcloud.objectives.objective import Objective
from pcloud.objectives.of_particles import OfParticles
from pcloud.objectives.pairs import Pairs
from pcloud.objectives.particle_classes import ParticleClasses
from pcloud.objectives.point import POINT_LOSSES, PointEstimate
from pcloud.objectives.quantiles import QuantileEstimate
from pcloud.objectives.several import Several
from pcloud.objectives.specification import (
    ANOMALY,
    CLASS,
    GENERATE,
    KINDS,
    MASKED,
    PARTICLE_KINDS,
    Specification,
)
from pcloud.objectives.target import Target
from pcloud.stored_values import KEEP_UNKNOWN, Float, Name, Names, tensor
from pcloud.validation import checked

__all__ = ["make_objective", "objective_from_dict"]

_Level = Annotated[float, Interval(gt=0, lt=1)]
_Weight = Annotated[float, Interval(ge=0, le=1e12)]


_Flag = tuple[Annotated[int, Interval(ge=0, le=10**6)], Float, Float]
_Coordinates = Annotated[list[Float], Len(NUM_COORDINATES, NUM_COORDINATES)]


def _can_be_weights(weight: Tensor) -> None:
    if not weight.is_floating_point() or not bool(weight.isfinite().all()):
        raise InputError("weights of layers that are not finite")


class _StoredPart(TypedDict):
    """One objective in a checkpoint."""

    __pydantic_config__ = KEEP_UNKNOWN  # type: ignore[misc]

    kind: Name
    classes: NotRequired[Names]
    target: NotRequired[Target]
    name: NotRequired[Name]
    collection: NotRequired[Annotated[int, Interval(ge=0, le=1000)]]
    width: NotRequired[Annotated[int, Interval(ge=1, le=10**6)]]
    widths: NotRequired[Annotated[list[Annotated[int, Interval(ge=1, le=10**6)]], Len(0, 100)]]
    threshold: NotRequired[_Level]
    weights: NotRequired[dict[Name, Annotated[Tensor, tensor(_can_be_weights)]]]
    levels: NotRequired[Annotated[list[_Level], Len(1, 1000)]]
    delta: NotRequired[Annotated[float, Interval(gt=0, le=1e12)]]
    fraction: NotRequired[_Level]
    flags: NotRequired[Annotated[list[_Flag], Len(0, 100)]]
    mean: NotRequired[_Coordinates]
    scale: NotRequired[_Coordinates]


class StoredObjective(TypedDict):
    """Objectives in a checkpoint."""

    __pydantic_config__ = KEEP_UNKNOWN  # type: ignore[misc]

    parts: Annotated[list[_StoredPart], Len(1, 1000)]
    weights: Annotated[list[_Weight], Len(1, 1000)]
    log_scales: NotRequired[Annotated[Tensor, tensor()]]


def make_objective(
    specifications: Sequence[Specification],
    *,
    classes: Sequence[str] = (),
    class_weights: str | Sequence[float] = "none",
    class_loss: str = "cross_entropy",
    transforms: Mapping[str, str] | None = None,
    weights: Sequence[float] | None = None,
    learned: bool = False,
    particle_classes: Mapping[str, Sequence[str]] | None = None,
    collections: Sequence[str] = (),
) -> Several:
    """Objectives of a network that has not been trained.

    Parameters
    ----------
    specifications : sequence of Specification
        Objectives that are learned at once.
    classes : sequence of str
        Names of the classes, for an objective of these.
    class_weights : str or sequence of float
        Weights of the classes, see :class:`~pcloud.objectives.Classes`.
    class_loss : str
        Name of the loss of the classes in :data:`~pcloud.objectives.specification.CLASS_LOSSES`.
    transforms : mapping of str to str, optional
        Functions of targets that are learned, by name, such as those of the schema.
    weights : sequence of float, optional
        Weights of the objectives in the loss; by default 1.
    learned : bool
        Learn these weights.
    particle_classes : mapping of str to sequence of str, optional
        Classes of labels of particles, by name.
    collections : sequence of str
        Names of the further collections that the network takes, in their order.

    Raises
    ------
    InputError
        If a label is one of a collection that the network does not take.
    """
    parts: list[Objective] = []
    index = 0
    labels = [wanted.target for wanted in specifications if wanted.learns_particles]
    for wanted in specifications:
        if wanted.learns_particles:
            place = labels.index(wanted.target)
            number = _collection(wanted.target, collections)
            classes_of = (particle_classes or {}).get(wanted.target, ())
            parts.append(
                _of_particles(
                    wanted.kind,
                    wanted.target,
                    classes_of,
                    place,
                    number,
                    wanted.widths,
                    wanted.threshold,
                )
            )
            continue
        if wanted.detects_anomalies:
            parts.append(Anomaly(classes))
            continue
        if wanted.generates:
            parts.append(Generation())
            continue
        if wanted.learns_masked:
            parts.append(MaskedParticles(wanted.fraction, wanted.widths))
            continue
        if wanted.learns_classes:
            parts.append(Classes(classes, class_weights, class_loss))
            continue
        transform = wanted.transform or (transforms or {}).get(wanted.target, "none")
        target = Target(wanted.target, transform)  # type: ignore[arg-type]
        parts.append(_of_target(wanted.kind, target, index, wanted.levels, wanted.delta))
        index += 1
    return Several(parts, weights, learned=learned)


def _collection(label: str, collections: Sequence[str]) -> int:
    """Number of the collection of a label."""
    name = label.rpartition(".")[0]
    if name and name not in collections:
        known = f"only {', '.join(collections)}" if collections else "none"
        raise InputError(
            f"label {label!r} is one of the collection {name!r}, which is not among the inputs of the "
            f"network ({known}): take it with collections"
        )
    return collections.index(name) + 1 if name else 0


def _of_particles(
    kind: str,
    name: str,
    classes: Sequence[str],
    index: int,
    collection: int,
    widths: Sequence[int],
    threshold: float,
) -> OfParticles:
    if kind == Pairs.kind:
        if not widths:
            raise InputError(f"objective {name!r}: pairs need at least one hidden layer")
        return Pairs(name, index, collection, widths, threshold)
    return ParticleClasses(name, classes, index, collection, widths)


def _of_target(
    kind: str, target: Target, index: int, levels: Sequence[float], delta: float
) -> Objective:
    if kind in POINT_LOSSES:
        return PointEstimate(target, kind, index, delta=delta)
    if kind == Gaussian.kind:
        return Gaussian(target, index)
    if kind == QuantileEstimate.kind:
        return QuantileEstimate(target, levels, index)
    if kind == Label.kind:
        return Label(target, index)
    raise UnknownNameError("kind of objective", kind, KINDS)


def objective_from_dict(values: Mapping[str, Any]) -> Several:
    """Inverse of :meth:`Several.to_dict`.

    Raises
    ------
    InputError
        If the values are not those of objectives.
    """
    stored = checked(StoredObjective, dict(values), "objective")
    parts: list[Objective] = []
    index = num_labels = 0
    for part in stored["parts"]:
        if part["kind"] in PARTICLE_KINDS:
            place, num_labels = num_labels, num_labels + 1
            parts.append(_stored_of_particles(part, place))
            continue
        if part["kind"] == ANOMALY:
            parts.append(Anomaly(part.get("classes", [])))
            continue
        if part["kind"] == GENERATE:
            parts.append(Generation())
            continue
        if part["kind"] == MASKED:
            parts.append(_stored_masked(part))
            continue
        if part["kind"] == CLASS:
            parts.append(Classes(part.get("classes", [])))
            continue
        if "target" not in part:
            raise InputError("objective.parts: no target")
        levels, delta = part.get("levels", [0.5]), part.get("delta", 1.0)
        parts.append(_of_target(part["kind"], part["target"], index, levels, delta))
        index += 1
    learned = "log_scales" in stored
    found = Several(parts, stored["weights"], learned=learned)
    for own in found.of_particles:
        if own.layers is None:
            raise InputError(f"objective {own.name!r}: no weights of its layers")
    found.load(stored)
    return found


def _stored_masked(part: _StoredPart) -> MaskedParticles:
    """Objective of hidden particles, with its constants and the weights of its layers."""
    found = MaskedParticles(part.get("fraction", 1 / 3), part.get("widths", []))
    found.load_constants(part)
    if "weights" in part:
        found.load_weights(part.get("width", found.num_outputs), part["weights"])
    return found


def _stored_of_particles(part: _StoredPart, index: int) -> OfParticles:
    """Objective of a label of particles, with the weights of its layers."""
    for field in ("name", "width", "weights"):
        if field not in part:
            raise InputError(f"objective.parts: no {field}")
    classes, widths = part.get("classes", []), part.get("widths", [])
    if part["kind"] == ParticleClasses.kind and not classes:
        raise InputError("objective.parts: no classes")
    found = _of_particles(
        part["kind"],
        part["name"],
        classes,
        index,
        part.get("collection", 0),
        widths,
        part.get("threshold", 0.5),
    )
    found.load_weights(part["width"], part["weights"])
    return found
