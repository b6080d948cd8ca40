"""Graph from four-momenta and columns to predictions: what an exported file computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud import kinematics
from pcloud.collection_features import CollectionFeatures
from pcloud.entries import positions
from pcloud.errors import InputError
from pcloud.evaluation.calibration_maps import Scaling
from pcloud.export.inputs import JET_P4, MASK, OFFSETS, CloudInputs, CollectionInputs
from pcloud.features import FeatureSet
from pcloud.nn.graph.coordinates import eta_phi
from pcloud.nn.graph.knn import Search, watched_searches
from pcloud.nn.layout import DenseBlock, RaggedLayout
from pcloud.nn.pooling import sum_by_index
from pcloud.objectives.of_target import OfTarget
from pcloud.objectives.predictions import Bernoulli, Categorical, Estimate, Prediction, average
from pcloud.objectives.several import Several
from pcloud.order import canonical_order_of_padded, stable_order

__all__ = [
    "PROBABILITIES",
    "CloudGraph",
    "CompactGraph",
    "Neighbors",
    "Outputs",
    "RaggedGraph",
    "WithNeighbors",
]

PROBABILITIES = "probabilities"
"""Name of the output with the probabilities of the classes."""

_PADDING = (1.0, 1.0, 0.0, 0.0)
"""Momentum in GeV of the rows beyond the particles, which belong to no jet: a massless particle."""

_MIN_LOG_PROBABILITY = -690.0  # of the calibration maps, 1e-300


class Outputs(nn.Module):
    """Predictions of all objectives from the outputs of one network, or of the members of an ensemble.

    Parameters
    ----------
    objectives : sequence of Several
        Objective of each network.
    scaling : Scaling, optional
        Calibration of the probabilities of the classes.
    """

    def __init__(self, objectives: Sequence[Several], scaling: Scaling | None = None) -> None:
        super().__init__()
        self.objectives = nn.ModuleList(objectives)
        self.scaling = scaling

    @property
    def objective(self) -> Several:
        """Objective of the first network, which has the names of all."""
        return self.objectives[0]  # type: ignore[return-value]

    def names(self) -> list[str]:
        """Names of the outputs."""
        return list(self([torch.zeros(1, self.objective.num_outputs)] * len(self.objectives)))

    def forward(self, outputs: Sequence[Tensor]) -> dict[str, Tensor]:
        """Values of each output, (B, C) of the classes and (B,) of targets, float32.

        Parameters
        ----------
        outputs : sequence of Tensor, shape (B, num_outputs)
            Outputs of each network.
        """
        members = [f(o.double()) for f, o in zip(self.objectives, outputs, strict=True)]
        found: dict[str, Prediction] = members[0]
        if len(members) > 1:
            found = {name: average([member[name] for member in members]) for name in members[0]}
        return {name: values.float() for name, values in self.values(found).items()}

    def values(self, found: Mapping[str, Prediction]) -> dict[str, Tensor]:
        """Values of each output from the predictions of all objectives by name."""
        named: dict[str, Tensor] = {}
        for part in self.objective:
            prediction = found[part.name]
            if isinstance(prediction, Categorical):
                named[PROBABILITIES] = self._probabilities(prediction)
                continue
            assert isinstance(prediction, Estimate | Bernoulli)
            assert isinstance(part, OfTarget)
            for suffix, values in prediction.columns().items():
                is_value = isinstance(prediction, Estimate) and suffix != "_sigma"
                shown = part.target.value(values) if is_value else values
                named[f"pred_{part.name}{suffix}"] = shown
        return named

    def _probabilities(self, prediction: Categorical) -> Tensor:
        if self.scaling is None:
            return prediction.logits.softmax(-1)
        log_p = prediction.logits.log_softmax(-1).clamp(min=_MIN_LOG_PROBABILITY)
        weights = log_p.new_tensor(self.scaling.weights)
        return (log_p * weights + log_p.new_tensor(self.scaling.biases)).softmax(-1)


@dataclass(frozen=True)
class _Rows:
    """Rows of one collection of padded jets: entries in canonical order, then padding.

    Attributes
    ----------
    layout : RaggedLayout
        Layout of all rows.
    p4 : Tensor, shape (N, 4)
        Four-momenta in GeV.
    columns : mapping of str to Tensor, shape (N,)
        Columns.
    """

    layout: RaggedLayout
    p4: Tensor
    columns: Mapping[str, Tensor]

    @property
    def length(self) -> int:
        """Rows of each jet."""
        assert self.layout.row_length is not None
        return self.layout.row_length


class CloudGraph(nn.Module):
    """Predictions from four-momenta and columns: order, features, network, probabilities.

    All jets have one row more than particles, which is padding: no axis of the graph is empty, not
    even for jets without particles.

    Parameters
    ----------
    networks : sequence of Module
        Network, or members of an ensemble, in evaluation mode.
    features : FeatureSet
        Features of the network.
    inputs : CloudInputs
        Inputs of the graph.
    outputs : Outputs
        Predictions from the outputs of the networks.
    padded : bool
        True for batches of padded jets with masks; False for one jet.
    empty_slots : int
        Empty slots in the neighbour search: the largest number of neighbours.
    max_particles : int, optional
        Largest number of particles of a jet; by default any number.
    refuse_long : bool
        If a jet has more: True for outputs that are NaN; False to remove the softest.
    """

    features: FeatureSet
    inputs: CloudInputs
    padding: Tensor

    def __init__(
        self,
        networks: Sequence[nn.Module],
        features: FeatureSet,
        inputs: CloudInputs,
        outputs: Outputs,
        *,
        padded: bool,
        empty_slots: int = 0,
        max_particles: int | None = None,
        refuse_long: bool = False,
    ) -> None:
        super().__init__()
        self.max_particles = max_particles
        self.refuse_long = refuse_long
        self.networks = nn.ModuleList(networks)
        self.features = features
        self.inputs = inputs
        self.outputs = outputs
        self.padded = padded
        self.empty_slots = empty_slots
        self.names = inputs.names(padded=padded)
        self.register_buffer("padding", torch.tensor(_PADDING), persistent=False)

    @torch.no_grad()
    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Outputs in the order of :meth:`Outputs.names`, from the inputs in the order of `names`."""
        outputs = self.predict(dict(zip(self.names, tensors, strict=True)))
        return tuple(outputs.values())

    def predict(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Outputs by name, from inputs by name."""
        if not self.padded:
            given = self._as_batch(given)
        x, p4, layout = self.arguments(given)
        num_jets = layout.num_jets - 1  # without the padding
        found = [network(x, p4, layout.batch, layout)[:num_jets] for network in self.networks]
        outputs = self.outputs(found)
        if self.refuse_long and self.max_particles is not None:
            is_long = given[MASK].long().sum(1) > self.max_particles
            outputs = {n: _where_not(is_long, values) for n, values in outputs.items()}
        return outputs if self.padded else {name: v.squeeze(0) for name, v in outputs.items()}

    def _as_batch(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Batch of one jet, with masks that are true."""
        per_jet = set(self.inputs.jet_columns)
        batch = {name: v if name in per_jet else v.unsqueeze(0) for name, v in given.items()}
        for part in self.inputs.collections:
            rows = given[part.names[0]]
            mask = torch.ones(rows.shape[0], dtype=torch.bool, device=rows.device)
            batch[part.input_name(MASK)] = mask.unsqueeze(0)
        return batch

    def arguments(self, given: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, RaggedLayout]:
        """Features (N, F), momenta (N, 4) and layout of all rows."""
        of_particles, *further = self.inputs.collections
        particles = self._sorted(of_particles, given)
        layout = particles.layout
        x, u, jet_p4 = self._features(particles.p4, particles.columns, layout, given)
        if not further:
            rows = self._with_slots(layout)
            return x, particles.p4, rows.with_jet_p4(jet_p4).with_rows(u=u)
        return self._with_further(particles, x, u, jet_p4, given)

    def _features(
        self,
        p4: Tensor,
        columns: Mapping[str, Tensor],
        layout: RaggedLayout,
        given: Mapping[str, Tensor],
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Features (N, F) of all rows, features (B + 1, G) and momenta (B + 1, 4) of the jets."""
        jet_p4 = None
        if self.inputs.has_jet_p4:
            jet_p4 = torch.cat([_unsigned_zero(given[JET_P4]), self.padding.unsqueeze(0)])
        of_jets = {n: F.pad(given[n], (0, 1))[layout.batch] for n in self.inputs.jet_columns}
        arguments = (p4, layout.batch, {**columns, **of_jets}, layout.num_jets, jet_p4)
        x = self.features(*arguments)
        u = None
        if self.features.jet_features:
            u = self.features.of_jets(*arguments, is_sorted=False)
        return x, u, jet_p4

    def of_jet(self, feed: Mapping[str, np.ndarray], place: int) -> dict[str, np.ndarray]:
        """Inputs of one jet of a batch."""
        return {name: values[place : place + 1] for name, values in feed.items()}

    def _with_slots(self, layout: RaggedLayout) -> RaggedLayout:
        """Layout with the empty slots of the neighbour search."""
        assert layout.row_length is not None
        return RaggedLayout.of_padded(layout.counts[:-1], layout.row_length, self.empty_slots)

    def _sorted(self, part: CollectionInputs, given: Mapping[str, Tensor]) -> _Rows:
        """Rows of a collection in canonical order, one more than entries."""
        mask = F.pad(given[part.input_name(MASK)], (0, 1))  # (B, R)
        columns = {
            name: torch.where(mask, F.pad(given[part.input_name(name)], (0, 1)), 0.0)
            for name in part.columns
        }
        empty = self.padding if part.has_momenta else torch.zeros_like(self.padding)
        p4 = empty.expand(*mask.shape, 4)
        if part.has_momenta:
            stored = F.pad(_unsigned_zero(given[part.input_name("p4")]), (0, 0, 0, 1))
            p4 = torch.where(mask.unsqueeze(-1), stored, empty)
        order = canonical_order_of_padded(p4, mask, list(columns.values()))
        counts = mask.long().sum(1)
        rows = p4.gather(1, order.unsqueeze(-1).expand(-1, -1, 4))
        values = {name: column.gather(1, order) for name, column in columns.items()}
        if self.max_particles is not None and not part.name:
            counts = counts.clamp(max=self.max_particles)
            slot = torch.arange(mask.shape[1], device=mask.device)
            mask = slot < counts.unsqueeze(1)
            rows = torch.where(mask.unsqueeze(-1), rows, empty)
            values = {name: torch.where(mask, v, 0.0) for name, v in values.items()}
        layout = RaggedLayout.of_padded(counts, mask.shape[1])
        flat = {name: column.flatten() for name, column in values.items()}
        return _Rows(layout, rows.flatten(0, 1), flat)

    def _with_further(
        self,
        particles: _Rows,
        x: Tensor,
        u: Tensor | None,
        stored: Tensor | None,
        given: Mapping[str, Tensor],
    ) -> tuple[Tensor, Tensor, RaggedLayout]:
        """Rows of the particles and of the further collections, jet by jet."""
        layout = particles.layout
        total = sum_by_index(particles.p4.double(), layout.batch, layout.num_jets)
        axis = total if stored is None else stored.double()
        reference = total if self.features.reference == "particles" else axis
        parts = [(particles, x, eta_phi(particles.p4, layout.with_jet_p4(stored)))]
        inputs = self.inputs.collections[1:]
        for part, features in zip(inputs, self.features.collections, strict=True):
            rows = self._sorted(part, given)
            parts.append((rows, *_of_entries(features, rows, reference, axis)))
        width = max(len(features) for features in self.features.parts)
        wide = [F.pad(x, (0, width - x.shape[1])) for _, x, _ in parts]
        has_positions = any(part.entries != "momenta" for part in self.features.collections)
        return self._merged(
            [rows for rows, _, _ in parts],
            [[rows.p4 for rows, _, _ in parts], wide, [pos for _, _, pos in parts]],
            axis if stored is None else stored,
            u,
            has_positions,
        )

    def _merged(
        self,
        parts: Sequence[_Rows],
        values: Sequence[Sequence[Tensor]],
        jet_p4: Tensor,
        u: Tensor | None,
        has_positions: bool,
    ) -> tuple[Tensor, Tensor, RaggedLayout]:
        """Rows of several collections beside each other, entries first and then padding."""
        masks, numbers = [], []
        for i, rows in enumerate(parts):
            slot = torch.arange(rows.length, device=rows.p4.device)
            masks.append(slot < rows.layout.counts[:-1].unsqueeze(1))
            numbers.append(torch.full_like(masks[-1], i, dtype=torch.long))
        mask = torch.cat(masks, dim=1)
        order = stable_order([(~mask).float()])
        layout = RaggedLayout.of_padded(mask.long().sum(1), mask.shape[1], self.empty_slots)

        def merged(tensors: Sequence[Tensor]) -> Tensor:
            dense = [
                t.view(-1, rows.length, t.shape[-1]) for t, rows in zip(tensors, parts, strict=True)
            ]
            joined = torch.cat(dense, dim=1)
            return joined.gather(1, order.unsqueeze(-1).expand(-1, -1, joined.shape[-1])).flatten(
                0, 1
            )

        p4, x, pos = map(merged, values)
        collection = torch.cat(numbers, dim=1).gather(1, order).flatten()
        layout = layout.with_jet_p4(jet_p4).with_rows(
            u=u, pos=pos if has_positions else None, collection=collection
        )
        return x, p4, layout


def _of_entries(
    features: CollectionFeatures, rows: _Rows, reference: Tensor, axis: Tensor
) -> tuple[Tensor, Tensor]:
    """Features (M, F) and positions (M, 2) of the rows of a further collection."""
    layout = rows.layout
    columns = dict(rows.columns)
    x = features.compute(rows.p4, layout.batch, columns, layout.num_jets, reference)
    pos = positions(features, rows.p4, columns, axis[layout.batch])
    return x.float(), pos.float()


def _unsigned_zero(p4: Tensor) -> Tensor:
    """Momenta in which -0.0 is 0.0: the azimuths of (-1, -0.0) and (-1, 0.0) differ."""
    return torch.where(p4 == 0, 0.0, p4)


def _where_not(condition: Tensor, values: Tensor) -> Tensor:
    """Values (B, ...), NaN where ``condition (B,)`` is true."""
    return torch.where(condition.view(-1, *[1] * (values.dim() - 1)), torch.nan, values)


class CompactGraph(CloudGraph):
    """Predictions of padded jets by the rows of their particles only.

    For networks with edges or pairs of particles, most of whose time would go to those of padding.
    One row of padding stays at the end, so that no axis of the graph is empty.
    Parameters are those of :class:`CloudGraph`, with one collection.
    """

    def arguments(self, given: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, RaggedLayout]:
        """Features (N + 1, F), momenta (N + 1, 4) and layout of the particles and one row."""
        rows = self._sorted(self.inputs.collections[0], given)
        counts = rows.layout.counts[:-1]
        slot = torch.arange(rows.length, device=counts.device)
        is_kept = (slot < counts.unsqueeze(1)).flatten()
        is_kept = F.pad(is_kept[:-1], (0, 1), value=True)  # a jet has more rows than particles
        index = is_kept.nonzero().squeeze(1)
        torch._check(index.shape[0] >= 1)
        p4 = rows.p4.index_select(0, index)
        columns = {name: column.index_select(0, index) for name, column in rows.columns.items()}
        return self._of_rows(p4, columns, F.pad(counts.cumsum(0), (1, 0)), given)

    def _of_rows(
        self,
        p4: Tensor,
        columns: Mapping[str, Tensor],
        offsets: Tensor,
        given: Mapping[str, Tensor],
    ) -> tuple[Tensor, Tensor, RaggedLayout]:
        """Features, momenta and layout of the particles of jets with these offsets, and one row."""
        layout = self._layout(_jet_of_rows(p4, offsets), offsets)
        x, u, jet_p4 = self._features(p4, columns, layout, given)
        return x, p4, layout.with_jet_p4(jet_p4).with_rows(u=u)

    def _layout(self, batch: Tensor, offsets: Tensor) -> RaggedLayout:
        """Layout with one block of slots if the network needs it, else without slots."""
        rows, num_jets = batch.shape[0], offsets.shape[0] - 1
        first = offsets[:-1]
        counts = offsets[1:] - first
        ptr = torch.cat([offsets, offsets[-1:] + 1])
        all_counts = torch.cat([counts, torch.ones_like(counts[:1])])
        if not self.empty_slots:
            return RaggedLayout(batch, ptr, all_counts, (), batch, 0)
        longest = counts.max().item()  # `int` would be constant in an exported network
        torch._check(longest >= 0)
        length = longest + 1
        slot = torch.arange(length, device=batch.device)
        mask = slot < counts.unsqueeze(1)
        index = first.unsqueeze(1) + torch.where(mask, slot, 0)
        row = torch.arange(rows, device=batch.device)
        position = batch * length + row - ptr.index_select(0, batch)
        position = torch.where(row == rows - 1, 0, position)
        jets = torch.arange(num_jets, device=batch.device)
        block = DenseBlock(jets, index, mask, False)
        return RaggedLayout(
            batch, ptr, all_counts, (block,), position, 0, spare_slots=self.empty_slots
        )


class RaggedGraph(CompactGraph):
    """Predictions from the rows of all jets and the offsets of the jets, without padding.

    Parameters
    ----------
    networks, features, inputs, outputs, empty_slots
        As in :class:`CloudGraph`, with one collection.

    Raises
    ------
    InputError
        If there are further collections.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        features: FeatureSet,
        inputs: CloudInputs,
        outputs: Outputs,
        *,
        empty_slots: int = 0,
    ) -> None:
        super().__init__(networks, features, inputs, outputs, padded=True, empty_slots=empty_slots)
        if inputs.collections[1:]:
            raise InputError("ragged batches have one collection: use --padded")
        self.names = [*inputs.names(padded=False), OFFSETS]

    def arguments(self, given: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, RaggedLayout]:
        """Features (N + 1, F), momenta (N + 1, 4) and layout of all rows and one of padding."""
        offsets = given[OFFSETS]
        p4 = torch.cat([_unsigned_zero(given["p4"]), self.padding.unsqueeze(0)])
        columns = {n: F.pad(given[n], (0, 1)) for n in self.inputs.collections[0].columns}
        batch = _jet_of_rows(p4, offsets)
        keys = [batch.double(), -kinematics.pt2(p4.double()), *p4.unbind(1), *columns.values()]
        order = stable_order([key.unsqueeze(0) for key in keys]).squeeze(0)
        p4 = p4.index_select(0, order)
        columns = {name: column.index_select(0, order) for name, column in columns.items()}
        return self._of_rows(p4, columns, offsets, given)

    def of_jet(self, feed: Mapping[str, np.ndarray], place: int) -> dict[str, np.ndarray]:
        """Inputs of one jet of a batch."""
        first, last = feed[OFFSETS][place : place + 2]
        found = {name: feed[name][place : place + 1] for name in self.inputs.per_jet}
        found |= {name: feed[name][first:last] for name in self.inputs.collections[0].names}
        return found | {OFFSETS: np.array([0, last - first])}


def _jet_of_rows(p4: Tensor, offsets: Tensor) -> Tensor:
    """Jet (N,) of each row: the number of jets that end before it."""
    ends = torch.zeros_like(p4[:, 0], dtype=torch.long)
    return ends.scatter_add(0, offsets[1:], torch.ones_like(offsets[1:])).cumsum(0)


class Neighbors:
    """Neighbour searches of a graph, recorded or replaced.

    Attributes
    ----------
    found : list of Tensor
        Neighbours of each search.
    k : list of int
        Number of neighbours of each.
    """

    def __init__(self, given: Sequence[Tensor] = ()) -> None:
        self.found: list[Tensor] = []
        self.k: list[int] = []
        self._given = list(given)

    def __call__(self, pos: Tensor, layout: RaggedLayout, k: int, search: Search) -> Tensor:
        """Neighbours of one search: the next of those given, or else the result of the search."""
        neighbors = self._given[len(self.found)] if self._given else search(pos, layout, k)
        self.found.append(neighbors)
        self.k.append(k)
        return neighbors


class WithNeighbors(nn.Module):
    """Graph whose further outputs are the neighbours of each search.

    Parameters
    ----------
    tagger : Module
        Graph.
    """

    def __init__(self, tagger: nn.Module) -> None:
        super().__init__()
        self.tagger = tagger  # `graph` is an attribute of exported modules

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Outputs of the graph, and neighbours (N, k) of each search."""
        searches = Neighbors()
        with watched_searches(searches):
            outputs = self.tagger(*tensors)
        return (*outputs, *searches.found)
