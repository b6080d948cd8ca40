"""Which particles and features a decision rests on: saliency, integrated gradients, occlusion."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import awkward as ak
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_geometric.data import Batch

from pcloud import kinematics
from pcloud.batch import JetDataset, JetLoader, batch_arguments, network_arguments
from pcloud.errors import InputError, UnknownNameError
from pcloud.features import Feature, FeatureSet, feature_set
from pcloud.interpret.attribution_captum import captum_method
from pcloud.interpret.edges import fixed_graph, record_graph
from pcloud.interpret.response import CompletenessMixin, check_momenta, log_odds, sees_features
from pcloud.io.jets import JET_MOMENTUM, MOMENTUM, FlatJets, as_offsets
from pcloud.nn.graph.coordinates import follow_particles
from pcloud.nn.layout import RaggedLayout
from pcloud.nn.numerics.derivatives import frozen
from pcloud.nn.pooling import sum_pool
from pcloud.particle_types import with_particle_types
from pcloud.run_files import Advance, ignore_progress

__all__ = ["METHODS", "Attribution", "attribute"]

METHODS = ("saliency", "integrated_gradients", "smoothgrad", "occlusion")
"""The ways to attribute a response."""

_OCCLUDED = 2**20  # particles of shortened jets held at a time
_COLLIMATED = 0.01  # angles to the axis of the jet, in units of those of the jet itself
_GAP = 0.1  # of the change of the response, that integrated gradients may leave unexplained
_STORED_ANGLES = ("deta", "dphi")


@dataclass(frozen=True)
class Attribution(CompletenessMixin):
    """What each particle and feature adds to the response of its jet.

    Parameters
    ----------
    method : str
        One of :data:`METHODS`.
    values : ndarray, shape (N, K)
        Per particle and column. Signed for integrated gradients and occlusion, where positive
        speaks for the class; magnitudes of gradients for saliency and SmoothGrad.
    columns : tuple of str
        Features, components of momentum, or ``("particle",)`` for occlusion.
    offsets : ndarray, shape (B + 1,)
        Jet ``i`` is particles ``offsets[i]:offsets[i + 1]``.
    response : ndarray, shape (B,)
        Log-odds of the class.
    baseline : ndarray, shape (B,), optional
        Log-odds at the baseline of integrated gradients.
    start : {"mean", "zero", "axis", "given"}, optional
        The baseline of integrated gradients, as of :func:`attribute`.
    """

    method: str
    values: NDArray[np.floating]
    columns: tuple[str, ...]
    offsets: NDArray[np.integer]
    response: NDArray[np.floating]
    baseline: NDArray[np.floating] | None = None
    start: str | None = None

    @property
    def per_particle(self) -> NDArray[np.floating]:
        """Sum over columns, (N,)."""
        return self.values.sum(axis=1)

    def first(self, number: int) -> Attribution:
        """The first jets alone."""
        offsets = self.offsets[: number + 1]
        baseline = None if self.baseline is None else self.baseline[:number]
        return replace(
            self,
            values=self.values[: offsets[-1]],
            offsets=offsets,
            response=self.response[:number],
            baseline=baseline,
        )

    @property
    def total(self) -> NDArray[np.floating]:
        """Sum over the particles and columns of each jet, (B,)."""
        jet = np.repeat(np.arange(len(self.response)), np.diff(self.offsets))
        return np.bincount(jet, self.per_particle, len(self.response)).astype(np.float64)


def attribute(
    model: nn.Module,
    jets: ak.Array,
    method: str = "integrated_gradients",
    *,
    features: str | Sequence[str | Feature] | FeatureSet = "kin",
    target: int = 1,
    respect_to: str = "auto",
    baseline: str | Sequence[float] = "auto",
    steps: int = 32,
    samples: int = 16,
    noise: float = 0.1,
    hold_graph: bool = True,
    batch_size: int = 128,
    seed: int = 0,
    advance: Advance = ignore_progress,
) -> Attribution:
    """Attribute the log-odds of a class to the particles of each jet.

    Parameters
    ----------
    model : torch.nn.Module
        ``model(x, p4, batch) -> logits (B, C)``; put into evaluation mode.
    jets : awkward.Array
        Jets with at least one particle.
    method : str
        ``"saliency"``: magnitude of the gradient. ``"smoothgrad"``: that of the mean gradient of
        `samples` jets with noise on the inputs. ``"integrated_gradients"``: input minus baseline,
        times the gradient averaged on the way. ``"occlusion"``: the response of the jet less that
        of the jet without the particle, from which all features are computed anew.
    features : str, sequence, or FeatureSet
        Inputs of the model, see :func:`pcloud.features.feature_set`.
    target : int
        The class.
    respect_to : {"auto", "features", "momenta"}
        What gradients are taken of. ``"features"``: the standardised inputs `x`, while everything
        the model takes from `p4` (the first neighbour search, pair features) stays. ``"momenta"``:
        `p4` in GeV, through the features too. ``"auto"``: features, or momenta where the model
        does not look at features.
    baseline : {"auto", "mean", "zero", "axis"} or sequence of float
        Inputs of every particle where integrated gradients begin. Of features ``"mean"``, the mean
        particle of these jets (``"auto"``); ``"zero"``, near the mean of the official samples, for
        which standardisation was chosen; or a value for each feature. Of momenta ``"zero"``,
        particles without momentum; ``"axis"``, the jet without substructure, in which every
        particle keeps pT and mass and has a hundredth of its angles to the axis of the jet;
        ``"auto"``, the first of these two from which integrated gradients are complete; or a value
        for each component.
    steps : int
        Of integrated gradients, by Gauss and Legendre.
    samples : int
        Noisy jets for SmoothGrad.
    noise : float
        Width of the noise in units of the standard deviation of each input.
    hold_graph : bool
        Whether the neighbours that a graph network finds stay those of the jet itself. Otherwise
        the response jumps where neighbours change, and no gradient knows of jumps.
    batch_size : int
        Jets that pass the network at a time, noisy, scaled and shortened ones counted.
    seed : int
        Of the noise.
    advance : callable
        Progress callback, called with the part of the whole work done.

    Returns
    -------
    Attribution
        Particles in the order of `jets`.

    Raises
    ------
    UnknownNameError
        If there is no such method.
    InputError
        If the response does not depend on what is asked for; if it is to be differentiated by
        momenta and jumps with them, as that of networks on jet images does; if momenta have no
        baseline, since the features of a particle without momentum are none; or if
        integrated gradients of momenta leave more than a tenth of the change of the response
        unexplained, on average over the first batch. A response that does not change when all
        momenta grow, as that of an energy flow network, jumps at zero momenta; from there they
        explain nothing.
    MissingExtraError
        If captum is not installed, for all methods but occlusion.

    Notes
    -----
    Columns ``deta`` and ``dphi`` of some files are left out and computed from the momenta, so that
    the axis moves with what is changed. Occlusion of the only particle of a jet is not a number.

    References
    ----------
    Simonyan et al., https://arxiv.org/abs/1312.6034; Sundararajan et al. (integrated gradients),
    https://arxiv.org/abs/1703.01365; Smilkov et al. (SmoothGrad), https://arxiv.org/abs/1706.03825.
    """
    if method not in METHODS:
        raise UnknownNameError("attribution method", method, METHODS)
    if respect_to not in ("auto", "features", "momenta"):
        raise UnknownNameError("respect_to", respect_to, ["auto", "features", "momenta"])
    was_training = model.training
    flat = FlatJets.from_awkward(with_particle_types(jets, feature_set(features).columns))
    for name in _STORED_ANGLES:
        flat.particle.pop(name, None)
    model.eval()

    def count(num_jets: float) -> None:
        advance(num_jets / max(len(flat), 1))

    try:
        if method == "occlusion":
            return _occlude(model, flat, feature_set(features), target, batch_size, count)
        with frozen(model):
            cloud = _Cloud(model, flat, feature_set(features), target)
            space = cloud.space(respect_to)
            options = {"steps": steps, "samples": samples, "noise": noise, "seed": seed}
            return _differentiate(
                cloud, method, space, baseline, hold_graph, batch_size, options, count
            )
    finally:
        model.train(was_training)


class _Cloud:
    """Jets of a network as captum sees them: many inputs, some of which belong together."""

    def __init__(self, model: nn.Module, jets: FlatJets, features: FeatureSet, target: int) -> None:
        self.model, self.features, self.target = model, features, target
        self.data = JetDataset(jets.to_awkward(), features)
        columns = {k: torch.from_numpy(np.array(jets.particle[k])) for k in features.columns}
        self.extras = {name: self.data.in_order(values) for name, values in columns.items()}
        self.features = self.data.feature_set

    def space(self, respect_to: str) -> str:
        """Whether to differentiate by features or by momenta."""
        batch = next(iter(JetLoader(self.data, 1)))
        seen = sees_features(self.model, batch.x, batch.p4, batch.batch)
        if respect_to == "features" and not seen:
            raise InputError("this model does not look at features: attribute to momenta")
        space = {"auto": "features" if seen else "momenta"}.get(respect_to, respect_to)
        if space == "momenta":
            check_momenta(self.model)
        return space

    def parts(self, size: int) -> Iterator[tuple[Any, dict[str, Tensor]]]:
        """Batches of `size` jets with their extra columns."""
        start = 0
        for batch in JetLoader(self.data, size):
            stop = start + len(batch.x)
            yield batch, {name: column[start:stop] for name, column in self.extras.items()}
            start = stop

    def respond(self, batch: Any, extras: dict[str, Tensor], space: str) -> Callable[..., Tensor]:
        """Log-odds (copies B,) from inputs of several copies of a batch, in any order.

        `particle` says to which particle each row of `inputs` belongs: captum repeats the batch as
        a whole for one method, and every row for another.
        """
        n, jets = len(batch.x), batch.num_graphs

        def response(inputs: Tensor, particle: Tensor) -> Tensor:
            rows = particle.argsort(stable=True).view(n, -1).t().flatten()
            copies = len(rows) // n
            shift = jets * torch.arange(copies).view(-1, 1)
            jet = (batch.batch + shift).flatten()
            inputs = inputs[rows]
            before = batch.p4.repeat(copies, 1)
            if space == "features":
                jet_p4 = _jet_momenta(batch, before, before, jet, copies)
                return log_odds(
                    self.model(*network_arguments(inputs, before, jet, jet_p4)), self.target
                )
            jet_p4 = _jet_momenta(batch, before, inputs, jet, copies)
            columns = {name: column.repeat(copies) for name, column in extras.items()}
            x = self.features(inputs, jet, columns, jets * copies, jet_p4).float()
            return log_odds(self.model(*network_arguments(x, inputs, jet, jet_p4)), self.target)

        return response


def _jet_momenta(
    batch: Batch, before: Tensor, after: Tensor, jet: Tensor, copies: int
) -> Tensor | None:
    """Stored momenta of the jets of several copies of a batch, which follow their particles."""
    if "jet_p4" not in batch:
        return None
    stored = batch.jet_p4.repeat(copies, 1)
    return follow_particles(stored, before, after, RaggedLayout.from_batch(jet, len(stored)))


def _differentiate(
    cloud: _Cloud,
    method: str,
    space: str,
    baseline: str | Sequence[float],
    hold_graph: bool,
    batch_size: int,
    options: dict[str, Any],
    advance: Callable[[float], Any],
) -> Attribution:
    compute, copies = captum_method(method, **options)
    inputs_of = cloud.data.x if space == "features" else cloud.data.p4
    scale = inputs_of.std(0) if len(inputs_of) > 1 else torch.zeros(inputs_of.shape[1])
    size = max(1, batch_size // copies)

    def attributed(start: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Values, responses and those of the baseline, batch by batch."""
        for batch, extras in cloud.parts(size):
            inputs = (batch.x if space == "features" else batch.p4).detach()
            respond, particle = cloud.respond(batch, extras, space), torch.arange(len(inputs))
            begin, start = start[: len(inputs)], start[len(inputs) :]
            graph = record_graph(cloud.model, batch.x, batch.p4, batch.batch) if hold_graph else []
            with fixed_graph(cloud.model, graph) if graph else nullcontext():
                values = compute(respond, inputs, particle, begin, scale)
                with torch.no_grad():
                    yield values, respond(inputs, particle), respond(begin, particle)

    def is_complete(start: Tensor) -> bool:
        """Whether the attributions of the first jets add up to a change of the response."""
        values, response, before = (found.double() for found in next(attributed(start)))
        change = (response - before).abs().mean()
        gap = (response - before).sub(_per_jet(values.sum(1), cloud.data.ptr)).abs().mean()
        # rounding to float32 changes a response of order one by 1e-6 or so
        return bool(gap <= _GAP * change and change > 1e-4 * (1 + response.abs().mean()))

    name, start = _baseline(cloud, method, space, baseline, is_complete)
    parts = []
    for part in attributed(start):
        parts.append(part)
        advance(len(part[1]))
    values, responses, baselines = zip(*parts, strict=True)
    columns = cloud.features.names if space == "features" else MOMENTUM
    return Attribution(
        method,
        _numpy([cloud.data.in_input_order(torch.cat(values))]),
        columns,
        cloud.data.ptr.numpy(),
        _numpy(responses),
        _numpy(baselines) if method == "integrated_gradients" else None,
        name if method == "integrated_gradients" else None,
    )


def _per_jet(values: Tensor, ptr: Tensor) -> Tensor:
    """Sums of ``values (N',)`` over the first jets, (B',)."""
    end = int(torch.searchsorted(ptr, len(values)))
    return torch.stack([part.sum() for part in values.split(ptr[: end + 1].diff().tolist())])


def _baseline(
    cloud: _Cloud,
    method: str,
    space: str,
    baseline: str | Sequence[float],
    is_complete: Callable[[Tensor], bool],
) -> tuple[str, Tensor]:
    """Name of the baseline, and the inputs (N, K) of all particles there."""
    if space == "features":
        return _feature_baseline(cloud.data.x, baseline)
    p4 = cloud.data.p4
    if method != "integrated_gradients":
        return "zero", torch.zeros_like(p4)
    if cloud.space("auto") == "features":
        raise InputError(
            "integrated gradients of a model that looks at features need respect_to='features':"
            " particles without momentum have none"
        )
    known = {"zero": torch.zeros_like(p4), "axis": _collimated(p4, cloud.data.ptr)}
    if isinstance(baseline, str) and baseline not in ("auto", *known):
        raise UnknownNameError("baseline of momenta", baseline, ["auto", *known])
    if not isinstance(baseline, str):
        known = {"given": _given(baseline, p4)}
    names = [baseline] if baseline in known else list(known)
    for name in names:
        if is_complete(known[name]):
            return name, known[name]
    raise InputError(
        f"integrated gradients from the baseline {' or '.join(names)} explain nothing of this "
        f"model, or leave more than {_GAP:.0%} of the change of its response unexplained: it does not "
        "change along the way, or jumps on it; take more steps, or occlusion, or saliency"
    )


def _feature_baseline(x: Tensor, baseline: str | Sequence[float]) -> tuple[str, Tensor]:
    if not isinstance(baseline, str):
        return "given", _given(baseline, x)
    if baseline in ("auto", "mean"):
        return "mean", x.mean(0).expand_as(x)
    if baseline == "zero":
        return "zero", torch.zeros_like(x)
    raise UnknownNameError("baseline of features", baseline, ["auto", "mean", "zero"])


def _given(baseline: Sequence[float], inputs: Tensor) -> Tensor:
    values = torch.as_tensor(baseline, dtype=inputs.dtype)
    if values.shape != inputs.shape[1:]:
        raise InputError(f"the baseline must have {inputs.shape[1]} numbers, got {values.numel()}")
    return values.expand_as(inputs)


def _collimated(p4: Tensor, ptr: Tensor) -> Tensor:
    """Particles (N, 4) of the same pT and mass, nearly along the axes of their jets."""
    layout = RaggedLayout.from_ptr(ptr)
    particles = p4.double()
    axis = sum_pool(particles, layout)[layout.batch]
    eta = kinematics.finite_eta(particles)
    axis_eta = kinematics.finite_eta(axis)
    moved = kinematics.from_pt_eta_phi_mass(
        kinematics.pt(particles),
        axis_eta + _COLLIMATED * (eta - axis_eta),
        kinematics.phi(axis) + _COLLIMATED * kinematics.delta_phi(particles, axis),
        kinematics.safe_sqrt(kinematics.mass2(particles)),
    )
    return moved.to(p4)


def _occlude(
    model: nn.Module,
    jets: FlatJets,
    features: FeatureSet,
    target: int,
    batch_size: int,
    advance: Callable[[float], Any],
) -> Attribution:
    counts = jets.counts
    share = len(jets) / max(counts.sum(), 1)
    whole = _responses(model, jets, features, target, batch_size, lambda jets: None)
    values = np.full(jets.offsets[-1], np.nan)
    for first, last in _chunks(counts**2):
        part = jets.slice(first, last)
        shortened = _shortened(part)
        rest = np.full(len(shortened), np.nan)
        some = shortened.counts > 0
        if some.any():
            rest[some] = _responses(
                model,
                shortened.select(some),
                features,
                target,
                batch_size,
                lambda jets: advance(jets * share),
            )
        advance(np.sum(~some) * share)
        before = np.repeat(whole[first:last], part.counts)
        values[jets.offsets[first] : jets.offsets[last]] = before - rest
    return Attribution("occlusion", values[:, None], ("particle",), jets.offsets, whole)


def _shortened(jets: FlatJets) -> FlatJets:
    """For every particle its jet without it."""
    counts, jet = jets.counts, np.repeat(np.arange(len(jets)), jets.counts)
    left_out = np.repeat(np.arange(len(jet)), counts[jet])
    first = as_offsets(counts[jet])[:-1]
    row = jets.offsets[jet[left_out]] + np.arange(len(left_out)) - first[left_out]
    row = row[row != left_out]
    columns = {name: values[row] for name, values in jets.particle.items()}
    p4 = tuple(component[row] for component in jets.p4)
    stored = zip(JET_MOMENTUM, jets.p4, strict=True) if JET_MOMENTUM[0] in jets.jet else ()
    own = {name: jets.jet[name][jet] - component for name, component in stored}
    return FlatJets(as_offsets(counts[jet] - 1), p4, columns, own)


@torch.no_grad()
def _responses(
    model: nn.Module,
    jets: FlatJets,
    features: FeatureSet,
    target: int,
    batch_size: int,
    advance: Callable[[float], Any],
) -> NDArray[np.floating]:
    found = []
    for batch in JetLoader(JetDataset(jets.to_awkward(), features), batch_size):
        found.append(log_odds(model(*batch_arguments(batch)), target))
        advance(batch.num_graphs)
    return _numpy(found)


def _chunks(sizes: NDArray[np.integer]) -> Iterator[tuple[int, int]]:
    """Runs of jets whose sizes add up to no more than `_OCCLUDED`, or a single jet."""
    start, total = 0, 0
    for i, size in enumerate(sizes.tolist()):
        if i > start and total + size > _OCCLUDED:
            yield start, i
            start, total = i, 0
        total += size
    yield start, len(sizes)


def _numpy(parts: Sequence[Tensor]) -> NDArray[np.floating]:
    return torch.cat(list(parts)).detach().double().cpu().numpy()
