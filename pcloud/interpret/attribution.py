"""Attribution to particles and features: saliency, integrated gradients, occlusion."""

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
from pcloud.features import STORED_ANGLES, Feature, FeatureSet, feature_set
from pcloud.interpret.attribution_captum import captum_method
from pcloud.interpret.edges import fixed_graph, record_graph
from pcloud.interpret.methods import (
    METHODS,
    as_array,
    check_method,
    evaluation_mode,
    refuse_embedded,
)
from pcloud.interpret.response import CompletenessMixin, check_momenta, log_odds, sees_features
from pcloud.io.jets import JET_MOMENTUM, MOMENTUM, FlatJets, as_offsets
from pcloud.nn.graph.coordinates import follow_particles
from pcloud.nn.layout import RaggedLayout
from pcloud.nn.numerics.derivatives import frozen
from pcloud.nn.pooling import sum_pool
from pcloud.particle_types import with_particle_types
from pcloud.run_files import Advance, ignore_progress
from pcloud.words import number_of

__all__ = ["METHODS", "Attribution", "attribute"]

_MAX_OCCLUDED_PARTICLES = 2**20  # particles of shortened jets in memory at a time
_COLLIMATION = 0.01  # factor on the angles to the jet axis, in the baseline "axis"
_MAX_GAP = 0.1  # fraction of the change of the response that attributions may leave out
_STORED_ANGLES = (
    *STORED_ANGLES,
    "deta",
    "dphi",
)  # columns that are computed again from the momenta


@dataclass(frozen=True)
class Attribution(CompletenessMixin):
    """Contributions of the particles and features to the response of their jets.

    Parameters
    ----------
    method : str
        Name of the method in :data:`METHODS`.
    values : ndarray, shape (N, K)
        Contribution of each particle and column. For integrated gradients and occlusion it has a
        sign, positive in favour of the class. For saliency and SmoothGrad it is the magnitude of
        the gradient.
    columns : tuple of str
        Names of the features or of the components of the momentum, or ``("particle",)`` for
        occlusion.
    offsets : ndarray, shape (B + 1,)
        Jet ``i`` has the particles ``offsets[i]:offsets[i + 1]``.
    response : ndarray, shape (B,)
        Log-odds of the class.
    baseline : ndarray, shape (B,), optional
        Log-odds at the baseline of integrated gradients.
    start : {"mean", "zero", "axis", "given"}, optional
        Name of the baseline of integrated gradients, see :func:`attribute`.
    """

    method: str
    values: NDArray[np.floating]
    columns: tuple[str, ...]
    offsets: NDArray[np.integer]
    response: NDArray[np.floating]
    baseline: NDArray[np.floating] | None = None
    start: str | None = None

    def __repr__(self) -> str:
        """Method, numbers of jets and particles, and columns."""
        return (
            f"Attribution by {self.method} of {number_of(len(self.response), 'jet')} with "
            f"{number_of(len(self.values), 'particle')} to {', '.join(self.columns)}"
        )

    @property
    def per_particle(self) -> NDArray[np.floating]:
        """Sum over columns, (N,)."""
        return self.values.sum(axis=1)

    def first(self, number: int) -> Attribution:
        """Return the attribution of the first jets."""
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
        Network ``model(x, p4, batch) -> logits (B, C)``. It is used in evaluation mode.
    jets : awkward.Array
        Jets with at least one particle.
    method : str
        Attribution method:

        - ``"saliency"``: magnitude of the gradient.
        - ``"smoothgrad"``: magnitude of the mean gradient of `samples` copies with noise on the
          inputs.
        - ``"integrated_gradients"``: input minus baseline, times the mean gradient on the path
          between them.
        - ``"occlusion"``: response of the jet minus that of the jet without the particle, whose
          features are all computed again.
    features : str, sequence, or FeatureSet
        Inputs of the model, see :func:`pcloud.features.feature_set`.
    target : int
        Index of the class.
    respect_to : {"auto", "features", "momenta"}
        Variables of the gradients. ``"features"``: the standardised inputs `x`, with constant `p4`
        (first neighbour search, pair features). ``"momenta"``: `p4` in GeV, on which the features
        depend, too. ``"auto"``: features, or momenta for a model that does not use features.
    baseline : {"auto", "mean", "zero", "axis"} or sequence of float
        Start of the path of integrated gradients, the same inputs for every particle.

        For features: ``"mean"`` is the mean particle of these jets (and ``"auto"``); ``"zero"`` is
        close to the mean of the official samples, which define the standardisation; or one value
        for each feature.

        For momenta: ``"zero"`` are particles without momentum; ``"axis"`` is the jet without
        substructure, in which every particle has its pT and mass, but one hundredth of its angles
        to the jet axis; ``"auto"`` is the first of these two for which integrated gradients are
        complete; or one value for each component.
    steps : int
        Number of steps of integrated gradients (Gauss-Legendre quadrature).
    samples : int
        Number of noisy copies of each jet for SmoothGrad.
    noise : float
        Width of the noise in standard deviations of each input.
    hold_graph : bool
        Keep the neighbours that a graph network finds for the original jet. Otherwise the response
        is discontinuous where neighbours change, and gradients do not include the discontinuity.
    batch_size : int
        Number of jets in a forward pass, including noisy, scaled and shortened copies.
    seed : int
        Seed of the noise.
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
        In any of these cases:

        - The response does not depend on the variables.
        - The variables are momenta, and the response is discontinuous in them, as for networks on
          jet images.
        - The variables are momenta, and the model uses features, which a particle without momentum
          does not have.
        - Integrated gradients of momenta leave out more than a tenth of the change of the response
          on average over the first batch. An example is the baseline ``"zero"`` for an energy flow
          network. Its response does not change when all momenta are scaled, and is discontinuous
          at zero.
    MissingExtraError
        If captum is not installed, for all methods but occlusion.

    Notes
    -----
    Columns ``stored_deta`` and ``stored_dphi`` of some files are not used, but computed from the momenta, so that
    the jet axis follows the modified particles. Occlusion of the only particle of a jet is NaN.

    References
    ----------
    Simonyan et al., https://arxiv.org/abs/1312.6034; Sundararajan et al. (integrated gradients),
    https://arxiv.org/abs/1703.01365; Smilkov et al. (SmoothGrad), https://arxiv.org/abs/1706.03825.
    """
    check_method(method)
    if respect_to not in ("auto", "features", "momenta"):
        raise UnknownNameError("respect_to", respect_to, ["auto", "features", "momenta"])
    refuse_embedded(feature_set(features), "attributions", categories=method != "occlusion")
    flat = FlatJets.from_awkward(with_particle_types(jets, feature_set(features).columns))
    for name in _STORED_ANGLES:
        flat.particle.pop(name, None)

    def count(num_jets: float) -> None:
        advance(num_jets / max(len(flat), 1))

    with evaluation_mode(model):
        if method == "occlusion":
            return _occlude(model, flat, feature_set(features), target, batch_size, count)
        with frozen(model):
            cloud = _Cloud(model, flat, feature_set(features), target)
            space = cloud.space(respect_to)
            options = {"steps": steps, "samples": samples, "noise": noise, "seed": seed}
            return _differentiate(
                cloud, method, space, baseline, hold_graph, batch_size, options, count
            )


class _Cloud:
    """Jets in the form that captum needs: one row of inputs for each particle."""

    def __init__(self, model: nn.Module, jets: FlatJets, features: FeatureSet, target: int) -> None:
        self.model = model
        self.target = target
        self.data = JetDataset(jets.to_awkward(), features)
        optional = [name for name in features.optional_columns if _has_column(jets, name)]
        names = dict.fromkeys((*features.columns, *optional))
        columns = {name: torch.from_numpy(_particle_column(jets, name)) for name in names}
        self.extras = {name: self.data.in_order(values) for name, values in columns.items()}
        self.features = self.data.feature_set

    def space(self, respect_to: str) -> str:
        """Variables of the gradients, ``"features"`` or ``"momenta"``."""
        batch = next(iter(JetLoader(self.data, 1)))
        seen = sees_features(self.model, *batch_arguments(batch))
        if respect_to == "features" and not seen:
            raise InputError("this model does not use features: attribute to momenta")
        space = {"auto": "features" if seen else "momenta"}.get(respect_to, respect_to)
        if space == "momenta":
            check_momenta(self.model)
        return space

    def parts(self, size: int) -> Iterator[tuple[Any, dict[str, Tensor]]]:
        """Yield batches of `size` jets with their extra columns."""
        start = 0
        for batch in JetLoader(self.data, size):
            stop = start + len(batch.x)
            yield batch, {name: column[start:stop] for name, column in self.extras.items()}
            start = stop

    def respond(self, batch: Any, extras: dict[str, Tensor], space: str) -> Callable[..., Tensor]:
        """Return the function from inputs of several copies of a batch to log-odds (copies B,).

        Its argument `particle` is the index of the particle of each row of `inputs`, because captum
        repeats the batch as a whole for one method, and every row for another.
        """
        n = len(batch.x)
        jets = batch.num_graphs

        def response(inputs: Tensor, particle: Tensor) -> Tensor:
            rows = particle.argsort(stable=True).view(n, -1).t().flatten()
            copies = len(rows) // n
            shift = jets * torch.arange(copies).view(-1, 1)
            jet = (batch.batch + shift).flatten()
            inputs = inputs[rows]
            before = batch.p4.repeat(copies, 1)
            if space == "features":
                jet_p4 = _jet_momenta(batch, before, before, jet, copies)
                u = batch.u.repeat(copies, 1) if "u" in batch else None
                return log_odds(
                    self.model(*network_arguments(inputs, before, jet, jet_p4, u)), self.target
                )
            jet_p4 = _jet_momenta(batch, before, inputs, jet, copies)
            columns = {name: column.repeat(copies) for name, column in extras.items()}
            quantities = (inputs, jet, columns, jets * copies, jet_p4)
            x = self.features(*quantities).float()
            u = self.features.of_jets(*quantities).float() if self.features.jet_features else None
            return log_odds(self.model(*network_arguments(x, inputs, jet, jet_p4, u)), self.target)

        return response


def _has_column(jets: FlatJets, name: str) -> bool:
    return name in jets.particle or name in jets.jet


def _particle_column(jets: FlatJets, name: str) -> NDArray[Any]:
    """Values (N,) of a column per particle; those of a column per jet are repeated."""
    if name in jets.particle:
        return np.array(jets.particle[name])
    return np.repeat(jets.jet[name], jets.counts)


def _jet_momenta(
    batch: Batch, before: Tensor, after: Tensor, jet: Tensor, copies: int
) -> Tensor | None:
    """Stored momenta of the jets in several copies of a batch, changed with their particles."""
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
        """Yield values, responses and responses of the baseline, batch by batch."""
        done = 0
        for batch, extras in cloud.parts(size):
            inputs = (batch.x if space == "features" else batch.p4).detach()
            respond = cloud.respond(batch, extras, space)
            particle = torch.arange(len(inputs))
            part = start[done : done + len(inputs)]
            done += len(inputs)
            graph = record_graph(cloud.model, *batch_arguments(batch)) if hold_graph else []
            with fixed_graph(cloud.model, graph) if graph else nullcontext():
                values = compute(respond, inputs, particle, part, scale)
                with torch.no_grad():
                    yield values, respond(inputs, particle), respond(part, particle)

    def is_complete(start: Tensor) -> bool:
        """True if the attributions of the first batch add up to the change of its response."""
        values, response, before = (found.double() for found in next(attributed(start)))
        change = (response - before).abs().mean()
        gap = (response - before).sub(_per_jet(values.sum(1), cloud.data.ptr)).abs().mean()
        # rounding to float32 changes a response of order 1 by about 1e-6
        return bool(gap <= _MAX_GAP * change and change > 1e-4 * (1 + response.abs().mean()))

    name, start = _baseline(cloud, method, space, baseline, is_complete)
    parts = []
    for part in attributed(start):
        parts.append(part)
        advance(len(part[1]))
    values, responses, baselines = zip(*parts, strict=True)
    columns = cloud.features.names if space == "features" else MOMENTUM
    return Attribution(
        method,
        as_array([cloud.data.in_input_order(torch.cat(values))]),
        columns,
        cloud.data.ptr.numpy(),
        as_array(responses),
        as_array(baselines) if method == "integrated_gradients" else None,
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
    """Name of the baseline, and its inputs (N, K) for all particles."""
    if space == "features":
        return _feature_baseline(cloud.data.x, baseline)
    p4 = cloud.data.p4
    if method != "integrated_gradients":
        return "zero", torch.zeros_like(p4)
    if cloud.space("auto") == "features":
        raise InputError(
            "integrated gradients of a model that uses features need respect_to='features', "
            "because a particle without momentum has no features"
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
        f"integrated gradients with the baseline {' or '.join(names)} leave out more than "
        f"{_MAX_GAP:.0%} of the change of the response, or the response does not change at all: it "
        "may be discontinuous; use more steps, or the method occlusion or saliency"
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
        raise InputError(
            f"the baseline must have {number_of(inputs.shape[1], 'number')}, got {values.numel()}"
        )
    return values.expand_as(inputs)


def _collimated(p4: Tensor, ptr: Tensor) -> Tensor:
    """Particles (N, 4) of the same pT and mass, almost parallel to the axes of their jets."""
    layout = RaggedLayout.from_ptr(ptr)
    particles = p4.double()
    axis = sum_pool(particles, layout)[layout.batch]
    eta = kinematics.finite_eta(particles)
    axis_eta = kinematics.finite_eta(axis)
    moved = kinematics.from_pt_eta_phi_mass(
        kinematics.pt(particles),
        axis_eta + _COLLIMATION * (eta - axis_eta),
        kinematics.phi(axis) + _COLLIMATION * kinematics.delta_phi(particles, axis),
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
    """For every particle, the jet without it."""
    counts = jets.counts
    jet = np.repeat(np.arange(len(jets)), counts)
    left_out = np.repeat(np.arange(len(jet)), counts[jet])
    first = as_offsets(counts[jet])[:-1]
    row = jets.offsets[jet[left_out]] + np.arange(len(left_out)) - first[left_out]
    row = row[row != left_out]
    columns = {name: values[row] for name, values in jets.particle.items()}
    p4 = tuple(component[row] for component in jets.p4)
    stored = zip(JET_MOMENTUM, jets.p4, strict=True) if JET_MOMENTUM[0] in jets.jet else ()
    own = {name: values[jet] for name, values in jets.jet.items() if name != "label"}
    own |= {name: jets.jet[name][jet] - component for name, component in stored}
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
    return as_array(found)


def _chunks(sizes: NDArray[np.integer]) -> Iterator[tuple[int, int]]:
    """Ranges of jets whose sizes add up to at most `_MAX_OCCLUDED_PARTICLES`, or single jets."""
    start = 0
    total = 0
    for i, size in enumerate(sizes.tolist()):
        if i > start and total + size > _MAX_OCCLUDED_PARTICLES:
            yield start, i
            start = i
            total = 0
        total += size
    yield start, len(sizes)
