"""Transfer of trained weights to a network whose features and classes may differ."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Group
from rich.table import Column, Table
from rich.text import Text
from torch import Tensor

from pcloud.errors import InputError
from pcloud.modality import Inputs
from pcloud.models.axes import Axis, class_axes, feature_axes
from pcloud.models.embedded import EmbeddedNetwork
from pcloud.run_files import write_json
from pcloud.text import for_terminal
from pcloud.training.checkpoint import Tagger
from pcloud.training.weights import Weights

__all__ = ["Transfer", "TransferReport", "transfer"]

Outcome = Literal["loaded", "mapped", "reset", "skipped"]


@dataclass(frozen=True)
class Transfer:
    """Outcome of the transfer of a tensor.

    Attributes
    ----------
    name : str
        Name in the state dict.
    outcome : {"loaded", "mapped", "reset", "skipped"}
        Loaded unchanged; mapped by the names of features or classes; reset to the random initial
        value; or skipped, because the new network has no such tensor.
    source_shape, shape : tuple of int, optional
        Shapes in the weights and in the new network; None where there is no such tensor.
    note : str
        Kind of mapping, or reason of a reset.
    """

    name: str
    outcome: Outcome
    source_shape: tuple[int, ...] | None
    shape: tuple[int, ...] | None
    note: str = ""


@dataclass(frozen=True)
class TransferReport:
    """Report on a transfer: every tensor of the network and of the weights.

    Attributes
    ----------
    origin : str
        Origin of the weights.
    tensors : sequence of Transfer
        Outcome of each tensor, in the order of the network.
    notes : sequence of str
        Remarks, such as on what could not be checked.
    """

    origin: str
    tensors: Sequence[Transfer]
    notes: Sequence[str] = ()

    def names(self, outcome: Outcome) -> list[str]:
        """Names of the tensors with this outcome."""
        return [tensor.name for tensor in self.tensors if tensor.outcome == outcome]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return dataclasses.asdict(self)

    def write(self, path: Path) -> None:
        """Write the report as JSON."""
        write_json(path, self.to_dict())

    def __rich__(self) -> Group:
        """Numbers of tensors by outcome, and a row for each that was not loaded unchanged."""
        counts = Counter(tensor.outcome for tensor in self.tensors)
        total = ", ".join(f"{number} {outcome}" for outcome, number in counts.items())
        names = ("tensor", "was", "is", "", "")
        table = Table(*(Column(name, no_wrap=True) for name in names), box=None)
        for tensor in self.tensors:
            if tensor.outcome != "loaded":
                shapes = [_shape(tensor.source_shape), _shape(tensor.shape)]
                table.add_row(*map(_cell, [tensor.name, *shapes, tensor.outcome, tensor.note]))
        rows = [table] if table.row_count else []
        said = f"initialised from {self.origin}: {total} tensors"
        return Group(_cell(said), *rows, *map(_cell, self.notes))


def transfer(weights: Weights, tagger: Tagger, *, reset_head: bool = False) -> TransferReport:
    """Transfer trained weights to a new network.

    Features and classes are matched by name, in any order. A new feature has weight zero in the
    linear maps, so that the network ignores it at first; a new class needs a new head.

    Parameters
    ----------
    weights : Weights
        The trained weights.
    tagger : Tagger
        The new network, whose random weights are replaced.
    reset_head : bool
        Keep the random weights of the tensors that depend on the number of classes.

    Returns
    -------
    TransferReport
        Outcome of each tensor.

    Raises
    ------
    InputError
        If the weights do not fit: other classes without `reset_head`, other widths or depths,
        or a feature with another standardisation. The network is not changed then.
    """
    number = tagger.objective.num_outputs
    sizes = len(tagger.feature_set), number, tagger.options
    head = class_axes(tagger.model, number)
    known = None if weights.feature_set is None else weights.feature_set.standardisation
    same_inputs = known == tagger.feature_set.standardisation
    _check_embedded(weights, tagger, same_inputs)
    inputs = {} if same_inputs else feature_axes(tagger.name, *sizes)
    if reset_head and not head:
        raise InputError(
            f"model {tagger.name!r} has no head: no layer of it has a row of weights for each class"
        )
    orders = [_order_of_features(weights, tagger.feature_set, inputs)] if inputs else []
    orders += [] if reset_head else [_order_of_classes(weights, tagger, head)]
    state = tagger.model.state_dict()
    tensors = []
    for name, new in state.items():
        if reset_head and name in head:
            taken: _Taken = new, "reset", "head"
        else:
            taken = _carried_over(name, weights, new, orders)
        state[name] = taken[0]
        tensors.append(_entry(name, weights.state.get(name), new, *taken[1:]))
    _check_fit(weights, tagger, tensors)
    tagger.model.load_state_dict(state)
    unused = [name for name in weights.state if name not in state]
    tensors += [_entry(name, weights.state[name], None, "skipped") for name in unused]
    notes = [_note_on_reference(weights, tagger), *(order.note for order in orders)]
    return TransferReport(weights.origin, tensors, [note for note in notes if note])


def _check_embedded(weights: Weights, tagger: Tagger, same_inputs: bool) -> None:
    """Refuse other features where collections or categories are embedded, in the order of these."""
    before, now = (
        getattr(inputs, "collections", ()) for inputs in (weights.feature_set, tagger.feature_set)
    )
    is_embedded = isinstance(tagger.model, EmbeddedNetwork) or bool(before)
    if is_embedded and not (same_inputs and before == now):
        raise InputError(
            f"{weights.origin} have other features, categories or collections than these jets "
            f"({_collection_names(before)} there, {_collection_names(now)} here), or another "
            "standardisation: networks that embed them need the same ones"
        )


def _collection_names(collections: Sequence[Any]) -> str:
    return ", ".join(["particles", *(part.name for part in collections)])


def _note_on_reference(weights: Weights, tagger: Tagger) -> str:
    """Remark on the momentum that features are relative to, where it has changed."""
    named = {"stored": "the stored momentum of the jet", "particles": "the sum of its particles"}
    before, now = (
        named.get(getattr(inputs, "reference", ""), "")
        for inputs in (weights.feature_set, tagger.feature_set)
    )
    changed = before and now and before != now
    return f"features were relative to {before}, here to {now}" if changed else ""


@dataclass(frozen=True)
class _Order:
    """Positions of the features, or classes, of a network among those of the weights."""

    axes: dict[str, Axis]
    """Tensors that depend on the number of features or classes."""
    old: int
    """Number of features or classes in the weights."""
    index: list[int | None] | None
    """Position of each among those of the weights, None for a new one; None where names are not
    known."""
    note: str = ""

    @property
    def same(self) -> bool:
        """True if the order does not change."""
        return self.index is None or self.index == list(range(self.old))

    def apply(self, name: str, value: Tensor, new: Tensor) -> Tensor | None:
        """Return `value` in the new order; None where its parts cannot be identified."""
        axis = self.axes[name]
        if axis.others or value.shape[axis.dim] != axis.blocks * self.old:
            return None
        old = value.movedim(axis.dim, 0).unflatten(0, (axis.blocks, self.old))
        moved = old.new_zeros(axis.blocks, len(self.index or []), *old.shape[2:])
        for j, i in enumerate(self.index or []):
            if i is not None:
                moved[:, j] = old[:, i]
            elif new.dim() == 1:  # scale, shift or statistics of a normalisation
                moved[:, j] = new.unflatten(0, (axis.blocks, -1))[:, j]
        return moved.flatten(0, 1).movedim(0, axis.dim)


_Taken = tuple[Tensor, Outcome, str]
"""Value of a tensor in the new network, its outcome and a note."""


def _carried_over(name: str, weights: Weights, new: Tensor, orders: Sequence[_Order]) -> _Taken:
    value = weights.state.get(name)
    if value is None:
        return new, "reset", _MISFIT
    changes = [order for order in orders if name in order.axes and not order.same]
    for order in changes:
        value = order.apply(name, value, new)
        if value is None:
            return new, "reset", "its inputs are not only features"
    if value.shape != new.shape:
        unknown = any(name in order.axes and order.index is None for order in orders)
        return new, "reset", "inputs of unknown names" if unknown else _MISFIT
    return value, "mapped" if changes else "loaded", "by name" if changes else ""


_MISFIT = "does not fit"


def _order_of_features(weights: Weights, features: Inputs, axes: dict[str, Axis]) -> _Order:
    if not features.names:
        return _Order(axes, 0, None)
    if weights.feature_set is None:
        return _Order(axes, 0, None, "the weights do not name their inputs")
    if not weights.feature_set.names:
        return _Order(axes, 0, None)
    known = _by_name(weights.feature_set)
    for name, feature in _by_name(features).items():
        before = known.get(name, feature)
        if before != feature:
            raise InputError(
                f"feature {name!r} was standardised as {before} in {weights.origin}, "
                f"here as {feature}: its weights would mean something else"
            )
    names = list(known)
    index = [names.index(name) if name in known else None for name in features.names]
    added = [name for name in features.names if name not in known]
    dropped = [name for name in names if name not in features.names]
    parts = [f"features new here: {', '.join(added)}"] if added else []
    parts += [f"features not used here: {', '.join(dropped)}"] if dropped else []
    return _Order(axes, len(names), index, "; ".join(parts))


def _by_name(inputs: Inputs) -> dict[str, Any]:
    return dict(zip(inputs.names, inputs.standardisation, strict=True))


def _order_of_classes(weights: Weights, tagger: Tagger, axes: dict[str, Axis]) -> _Order:
    advice = "--reset-head gives the network a new head"
    names = tagger.objective.output_names
    if weights.classes is None:
        for name in axes:
            old, new = weights.state.get(name), tagger.model.state_dict()[name]
            if old is not None and old.shape != new.shape:
                raise InputError(
                    f"{weights.origin} do not have {len(names)} classes, "
                    f"{', '.join(names)}: {name} is {_shape(old)}; {advice}"
                )
        return _Order(axes, 0, None, f"taken to have the classes {', '.join(names)}")
    absent = [name for name in names if name not in weights.classes]
    if absent:
        raise InputError(
            f"{weights.origin} know the classes {', '.join(weights.classes)}, "
            f"not {', '.join(absent)}; {advice}"
        )
    index: list[int | None] = [weights.classes.index(name) for name in names]
    return _Order(axes, len(weights.classes), index)


def _check_fit(weights: Weights, tagger: Tagger, tensors: Sequence[Transfer]) -> None:
    misfits = [tensor for tensor in tensors if tensor.note == _MISFIT]
    if not misfits:
        return
    first = misfits[0]
    raise InputError(
        f"{weights.origin}, a {weights.name}, do not fit the model {tagger.name!r}: "
        f"{len(misfits)} of its {len(tensors)} tensors are absent or have another shape, the first "
        f"is {first.name}, {_shape(first.shape)} here and {_shape(first.source_shape)} there"
    )


def _entry(
    name: str, old: Tensor | None, new: Tensor | None, outcome: Outcome, note: str = ""
) -> Transfer:
    source_shape = None if old is None else tuple(old.shape)
    return Transfer(name, outcome, source_shape, None if new is None else tuple(new.shape), note)


def _shape(shape: Tensor | tuple[int, ...] | None) -> str:
    if isinstance(shape, Tensor):
        shape = tuple(shape.shape)
    return "absent" if shape is None else " x ".join(map(str, shape)) or "a number"


def _cell(text: str) -> Text:
    return Text(for_terminal(text))
