"""Study of the attribution of the decisions of a run to particles, features or pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import numpy as np
import torch
from annotated_types import Len
from torch import Tensor, nn
from typing_extensions import TypedDict

from pcloud.batch import JetDataset, batch_arguments, collate
from pcloud.errors import InputError, UnknownNameError
from pcloud.features import FeatureSet
from pcloud.images.jet_taggers import JetImageTagger
from pcloud.interpret.attention import PAIR_FEATURES, attention_maps
from pcloud.interpret.attribution import METHODS, Attribution, attribute
from pcloud.interpret.attribution_rows import RowAttribution, attribute_rows
from pcloud.interpret.edges import edge_importance
from pcloud.interpret.jets import Plane, mean_image, worst_and_typical
from pcloud.interpret.methods import refuse_embedded
from pcloud.io.jets import FlatJets
from pcloud.modality import Inputs, Sample
from pcloud.nn.attention.attention import SelfAttention
from pcloud.nn.graph.edge_conv import EdgeBlock
from pcloud.run_files import ATTRIBUTION_FILE, Advance, StoredResult, ignore_progress
from pcloud.stored_values import KEEP_UNKNOWN, Count, Float, Grid, Name, Numbers, Text
from pcloud.studies.budget import jets_within_budget
from pcloud.studies.heatmaps import heatmaps, network_and_images
from pcloud.studies.image_figures import image_figures
from pcloud.studies.signals import explained_signals
from pcloud.training.run_sample import load_run_sample
from pcloud.validation import checked

if TYPE_CHECKING:
    from pcloud.training.run_folder import RunFolder

__all__ = ["ClassAttribution", "StoredAttribution", "attribute_run", "read_attribution"]

_JETS = 200
_ROWS = 5000  # events of a table, which take a second
_DRAWN_JETS = 2  # of each class, of the most misclassified and of the typical ones
_DRAWN_EDGES = 60  # the most important edges of a jet
_ATTENTION_JETS = 100  # whose attention is averaged

_BEST_FIRST = ("integrated_gradients", "occlusion", "smoothgrad", "saliency")


class _Method(TypedDict, total=False):
    """Averages of the attributions of one method."""

    __pydantic_config__ = KEEP_UNKNOWN  # type: ignore[misc]

    shares: dict[Name, Float]
    gap: Float
    start: Text | None
    change: Float


class _DrawnJet(TypedDict):
    """A jet to draw."""

    __pydantic_config__ = KEEP_UNKNOWN  # type: ignore[misc]

    title: Text
    deta: Numbers
    dphi: Numbers
    share: Numbers
    values: dict[Name, Numbers]


class _Heatmap(TypedDict):
    """An image to draw."""

    title: Text
    image: Grid
    values: dict[Name, Grid]


def _are_indices(values: np.ndarray, number: int) -> bool:
    """True if all values are integers from 0 to `number` - 1."""
    return bool(np.isin(values, np.arange(number)).all())


@dataclass(frozen=True)
class ClassAttribution:
    """Attribution of the log-odds of one class.

    Parameters
    ----------
    signal : str
        Name of the class.
    jets : int
        Number of jets, or images, that are averaged over.
    checkpoint : str
        Name of the checkpoint.
    methods : dict of str to dict
        For each method the ``"shares"`` of the features in the mean absolute attribution, and for
        integrated gradients the mean ``"change"`` of the log-odds, its ``"start"`` and the
        completeness ``"gap"``.
    drawn : list of dict
        Single jets: title, particles in the plane around the jet axis, and their attributions.
    images : dict
        Mean images of pT and of signed attributions by class, for jets.
    heatmaps, mean_heatmaps : list of dict, optional
        Single images, and averages over each class, with their attributions; for images.
    edges : list, optional
        Most important edges of the drawn jets: source, target, importance; for graph networks.
    attention : dict, optional
        Mean attention against each feature of a pair of particles; for transformers.
    of_rows : bool
        True for attributions to the columns of a table.
    """

    signal: Name
    jets: Count
    checkpoint: Name
    methods: dict[Name, _Method]
    drawn: Annotated[list[_DrawnJet], Len(0, 1000)]
    images: dict[Name, dict[Name, Grid]] | None = None
    heatmaps: Annotated[list[_Heatmap], Len(0, 1000)] | None = None
    mean_heatmaps: Annotated[list[_Heatmap], Len(1, 1000)] | None = None
    edges: list[Grid] | None = None
    attention: dict[Name, tuple[Numbers, Grid]] | None = None
    of_rows: bool = False

    @property
    def method(self) -> str:
        """Name of the method to show if there is room for one."""
        return next(name for name in _BEST_FIRST if name in self.methods)

    @property
    def integrated_gradients(self) -> _Method | None:
        """Change, start and gap of integrated gradients, if they are among the methods."""
        return self.methods.get("integrated_gradients")

    @property
    def shares(self) -> dict[str, dict[str, float]]:
        """Shares of the features, by method; of the methods that attribute to features."""
        shares = {name: found.get("shares", {}) for name, found in self.methods.items()}
        return {name: by_feature for name, by_feature in shares.items() if len(by_feature) > 1}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            name: value
            for name, value in vars(self).items()
            if value is not None and value is not False
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ClassAttribution:
        """Inverse of `to_dict`."""
        found = checked(cls, values)
        if not set(_BEST_FIRST) & set(found.methods):
            raise InputError("no method")
        if found.images is None and found.mean_heatmaps is None and not found.of_rows:
            raise InputError("no images")
        found._check_shapes()
        return found

    def _check_shapes(self) -> None:
        """Check that what is drawn together has the same methods, features and shapes."""
        features = {tuple(shares) for shares in self.shares.values()}
        if len(features) > 1:
            raise InputError("methods: shares of different features")
        for i, jet in enumerate(self.drawn):
            lengths = {len(jet[name]) for name in ("deta", "dphi", "share")}
            lengths |= {len(jet["values"].get(method, ())) for method in [self.method]}
            if len(lengths) > 1:
                raise InputError(f"drawn.{i}: not one value per particle")
        for name, images in (self.images or {}).items():
            shapes = {np.shape(image) for image in images.values()}
            if len(shapes) > 1 or any(rows != columns for rows, columns in shapes):
                raise InputError(f"images.{name}: not square images of one size")
        for name in ("heatmaps", "mean_heatmaps"):
            for i, entry in enumerate(getattr(self, name) or []):
                if np.shape(entry["values"].get(self.method)) != np.shape(entry["image"]):
                    raise InputError(f"{name}.{i}: no value of {self.method} for each pixel")
        if self.edges is not None and len(self.edges) != len(self.drawn):
            raise InputError("edges: not those of each drawn jet")
        for i, (edges, jet) in enumerate(zip(self.edges or [], self.drawn, strict=False)):
            ends = np.array(edges, dtype=float).reshape(len(edges), -1)
            particles = len(jet["deta"])
            if len(ends) and (ends.shape[1] != 3 or not _are_indices(ends[:, :2], particles)):
                raise InputError(f"edges.{i}: not source, target and importance")
        for name, (bins, profile) in (self.attention or {}).items():
            if np.shape(profile)[-1] != len(bins) - 1:
                raise InputError(f"attention.{name}: not one value per bin")

    def rows(self) -> list[list[str]]:
        """Table of the share of each feature, a column for each method; empty without features."""
        if not self.shares:
            return []
        names = list(next(iter(self.shares.values())))
        header = ["part of all attribution", *(name.replace("_", " ") for name in self.shares)]
        return [header, *([n, *(f"{s[n]:.3f}" for s in self.shares.values())] for n in names)]


@dataclass(frozen=True)
class StoredAttribution(StoredResult):
    """Attribution of the decisions of a run.

    Parameters
    ----------
    classes : list of ClassAttribution
        Attribution of each explained class.
    """

    file = ATTRIBUTION_FILE
    what = "attribution"
    command = "pcloud explain --method"

    classes: list[ClassAttribution]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON: of a single class directly, of several by their names."""
        if len(self.classes) == 1:
            return self.classes[0].to_dict()
        return {"classes": {found.signal: found.to_dict() for found in self.classes}}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> StoredAttribution:
        """Inverse of `to_dict`."""
        classes = checked(dict[str, Any], values).get("classes", {"": values})
        if not classes:
            raise InputError("no class")
        named = checked(dict[str, Any], classes, "classes")
        return cls([ClassAttribution.from_dict(found) for found in named.values()])

    def rows(self) -> list[list[str]]:
        """Table of the share of each feature in the attribution of each class."""
        rows = [["class", "feature", "method", "part of all attribution"]]
        for found in self.classes:
            for method, shares in found.shares.items():
                cells = ([name, method.replace("_", " ")] for name in shares)
                values = (f"{share:.3f}" for share in shares.values())
                rows += [[found.signal, *cell, v] for cell, v in zip(cells, values, strict=True)]
        return rows


def attribute_run(
    run: RunFolder,
    methods: Sequence[str],
    *,
    signal: str | None = None,
    jets: int | None = None,
    checkpoint: str = "best",
    advance: Advance = ignore_progress,
    **options: Any,
) -> StoredAttribution:
    """Attribute the decisions of a run on its test jets, and write ``attribution.json``.

    Parameters
    ----------
    run : RunFolder
        The trained tagger, on jets or on images. For networks that make an image of a jet,
        attributions are to the pixels.
    methods : sequence of str
        Names from :data:`~pcloud.interpret.attribution.METHODS`.
    signal : str, optional
        Class whose log-odds are attributed; by default the second of two, or each in turn.
    jets : int, optional
        Number of test jets, the first ones, whose attributions are averaged. By default 200, or
        as many as the network passes in some minutes. The most misclassified and typical jets that
        are drawn are chosen from all test jets.
    checkpoint : str
        ``"best"`` or ``"last"``.
    advance : callable
        Progress callback, called with the part of the whole work done.
    **options
        Options of :func:`~pcloud.interpret.attribution.attribute`.

    Returns
    -------
    StoredAttribution
        Attribution of each explained class.

    Raises
    ------
    UnknownNameError
        If there is no such method or class.
    """
    for method in methods:
        if method not in METHODS:
            raise UnknownNameError("attribution method", method, METHODS)
    run.checksum(checkpoint)  # raises before a large file is read
    run.check_classes("attribution")
    if run.modality.has_momenta:
        features = cast(FeatureSet, run.feature_set)
        refuse_embedded(features, "attributions", categories=[*methods] != ["occlusion"])
    signals = explained_signals(run.classes, signal)
    run.check_writable()
    test = load_run_sample(run, "test")
    modality = run.modality
    rows = modality.rows(test[: jets or _ROWS], run.feature_set)
    if rows is not None:
        attributed = (
            _attribute_rows(run, rows, methods, run.classes.index(name), checkpoint, **options)
            for name in signals
        )
        stored = StoredAttribution(list(attributed))
        advance(1.0)
        stored.write(run.out)
        return stored
    if not modality.has_momenta and modality.pixels(test[:1], run.feature_set) is None:
        raise InputError(
            "attribution is for networks on jets, images or tables, and this one takes "
            f"{modality.noun}"
        )
    if jets is None:
        passes = sum(_passes(method, **options) for method in methods) * len(signals)
        jets = jets_within_budget(run, test, passes=passes, most=_JETS, checkpoint=checkpoint)
    scores = run.predict(test, checkpoint=checkpoint)
    explained = _Explained.of(run, test, jets, checkpoint, scores)
    _store_images(run, explained, test, scores)
    classes = [
        _attribute_class(
            explained,
            run.classes.index(name),
            methods,
            advance=lambda part: advance(part / len(signals)),
            only_own=len(signals) > 1,
            **options,
        )
        for name in signals
    ]
    stored = StoredAttribution(classes)
    stored.write(run.out)
    return stored


def _attribute_rows(
    run: RunFolder,
    rows: Tensor,
    methods: Sequence[str],
    target: int,
    checkpoint: str,
    **options: Any,
) -> ClassAttribution:
    """Attribute the log-odds of one class to the columns of a table."""
    names = run.tagger(checkpoint).feature_set.names
    network = run.network(checkpoint).cpu()
    found = {
        method: attribute_rows(network, rows, names, method, target=target, **options)
        for method in methods
    }
    return ClassAttribution(
        signal=run.classes[target],
        jets=len(rows),
        checkpoint=checkpoint,
        methods={method: _summary(a) for method, a in found.items()},
        drawn=[],
        of_rows=True,
    )


def default_method(run: RunFolder, checkpoint: str = "best") -> str:
    """Name of the method that explains a run by default, which needs no optional package.

    Taylor coefficients for jets and tables, or occlusion for a network on images, whether of files
    or of jets.
    """
    tagger = run.tagger(checkpoint)
    on_rows = tagger.modality.has_momenta or bool(tagger.feature_set.names)
    return "taylor" if on_rows and not isinstance(tagger.model, JetImageTagger) else "occlusion"


def read_attribution(folder: str | Path) -> StoredAttribution:
    """Read the ``attribution.json`` of a run folder.

    Raises as :meth:`StoredAttribution.read`.
    """
    return StoredAttribution.read(folder)


@dataclass(frozen=True)
class _Explained:
    """A network and the test jets of its attribution: the first ones, and the ones to draw."""

    model: nn.Module
    inputs: Inputs
    classes: list[str]
    checkpoint: str
    sample: Sample  # the first `number`, then those of `chosen`
    number: int
    chosen: list[tuple[int, str]]
    labels: np.ndarray  # of the sample
    scores: np.ndarray

    @classmethod
    def of(
        cls, run: RunFolder, test: Sample, number: int, checkpoint: str, scores: np.ndarray
    ) -> _Explained:
        number = min(number, len(test))
        labels = np.asarray(test.label)
        chosen = worst_and_typical(labels, scores, _DRAWN_JETS if len(run.classes) < 4 else 1)
        rows = np.array([*range(number), *(i for i, _ in chosen)])
        return cls(
            model=run.network(checkpoint).cpu(),
            inputs=run.tagger(checkpoint).feature_set,
            classes=run.classes,
            checkpoint=checkpoint,
            sample=test[rows],
            number=number,
            chosen=chosen,
            labels=labels[rows],
            scores=scores[rows],
        )

    def drawn(self, target: int, only_own: bool) -> list[tuple[int, int, str]]:
        """Jets to draw: index in the sample and in the test jets, and the reason."""
        places = range(self.number, len(self.labels))
        return [
            (place, index, why)
            for place, (index, why) in zip(places, self.chosen, strict=True)
            if not only_own or self.labels[place] == target
        ]


def _store_images(run: RunFolder, explained: _Explained, test: Sample, scores: np.ndarray) -> None:
    """Write ``images.json`` for a network on images."""
    pictures = network_and_images(explained.model, test, explained.inputs)
    if pictures is not None:
        found = image_figures(*pictures, np.asarray(test.label), scores, explained.classes)
        found.write(run.out)


def _attribute_class(
    explained: _Explained,
    target: int,
    methods: Sequence[str],
    advance: Advance,
    only_own: bool,
    **options: Any,
) -> ClassAttribution:
    """Attribute the log-odds of one class."""
    about: dict[str, Any] = {
        "signal": explained.classes[target],
        "jets": explained.number,
        "checkpoint": explained.checkpoint,
    }
    drawn = explained.drawn(target, only_own)
    labels, scores, classes = explained.labels, explained.scores, explained.classes
    if pictures := network_and_images(explained.model, explained.sample, explained.inputs):
        places = [(place, why) for place, _, why in drawn]
        found = heatmaps(
            *pictures, labels, scores, classes, methods, target, explained.number, places,
            advance, **options,
        )  # fmt: skip
        return ClassAttribution(**about, **found)
    features = cast(FeatureSet, explained.inputs)  # of data with momenta
    attributions = {
        method: attribute(
            explained.model,
            explained.sample,
            method,
            features=features,
            target=target,
            advance=lambda part: advance(part / len(methods)),
            **options,
        )
        for method in methods
    }
    flat = FlatJets.from_awkward(explained.sample)
    plane = Plane.of(flat)
    first = {method: a.first(explained.number) for method, a in attributions.items()}
    own_places = [place for place, _, _ in drawn]
    drawn_jets: list[Any] = [
        {"index": index, **_drawn(place, why, flat, plane, attributions, classes, labels, scores)}
        for place, index, why in drawn
    ]
    return ClassAttribution(
        **about,
        methods={method: _summary(a) for method, a in first.items()},
        images=_images(flat, labels[: explained.number], classes, first),
        drawn=drawn_jets,
        **_inside(explained, features, target, own_places),
    )


def _passes(method: str, *, steps: int = 32, samples: int = 16, **options: Any) -> float:
    """Number of forward passes per jet; a backward pass counts as two."""
    particles = 50  # of a jet, about
    copies = {"integrated_gradients": steps, "smoothgrad": samples, "saliency": 1}
    return 3 * copies[method] if method in copies else particles


def _summary(found: Attribution | RowAttribution) -> _Method:
    size = np.nanmean(np.abs(found.values), axis=0)
    shares = dict(zip(found.columns, (size / max(size.sum(), 1e-300)).tolist(), strict=True))
    summary: _Method = {"shares": shares}
    if found.baseline is not None:
        summary["gap"] = float(np.abs(found.gap).mean())
        summary["start"] = getattr(found, "start", None)
        summary["change"] = float(np.abs(found.response - found.baseline).mean())
    return summary


def _images(
    flat: FlatJets, labels: np.ndarray, classes: Sequence[str], found: dict[str, Attribution]
) -> dict[str, dict[str, Any]]:
    """Mean images of pT, and of each signed attribution, class by class, of the first jets."""
    flat = flat.slice(0, len(labels))
    plane = Plane.of(flat)
    jet = np.repeat(np.arange(len(flat)), flat.counts)
    signed = {m: a for m, a in found.items() if m in ("integrated_gradients", "occlusion")}
    images: dict[str, dict[str, Any]] = {"pt": {}, **{method: {} for method in signed}}
    for label in np.unique(labels).tolist():
        inside = labels[jet] == label
        part = Plane(plane.deta[inside], plane.dphi[inside], plane.share[inside])
        number = int((labels == label).sum())
        name = classes[label]
        images["pt"][name] = mean_image(part, number).round(7).tolist()
        for method, a in signed.items():
            weights = np.nan_to_num(a.per_particle[inside])
            images[method][name] = mean_image(part, number, weights=weights).round(6).tolist()
    return images


def _drawn(
    index: int,
    why: str,
    flat: FlatJets,
    plane: Plane,
    found: dict[str, Attribution],
    classes: Sequence[str],
    labels: np.ndarray,
    scores: np.ndarray,
) -> dict[str, Any]:
    part = slice(int(flat.offsets[index]), int(flat.offsets[index + 1]))
    truth = int(labels[index])
    return {
        "title": f"{why} {classes[truth]}: p({classes[truth]}) = {scores[index, truth]:.2g}",
        **{name: getattr(plane, name)[part].round(5).tolist() for name in vars(plane)},
        "values": {m: np.nan_to_num(a.per_particle[part]).tolist() for m, a in found.items()},
    }


def _inside(
    explained: _Explained, features: FeatureSet, target: int, drawn: Sequence[int]
) -> dict[str, Any]:
    """Edges of graph networks on the drawn jets; mean attention of transformers."""
    model, data = explained.model, JetDataset(explained.sample, features)
    inside: dict[str, Any] = {}
    kinds = {type(module) for module in model.modules()}
    if any(issubclass(kind, EdgeBlock) for kind in kinds):
        inside["edges"] = [_edges(model, data, index, target) for index in drawn]
    if any(issubclass(kind, SelfAttention) for kind in kinds):
        batch = collate(data, torch.arange(min(explained.number, _ATTENTION_JETS)))
        maps = attention_maps(model, *batch_arguments(batch))
        profiles = [maps.profile(i) for i in range(len(PAIR_FEATURES))]
        inside["attention"] = {
            name: [edges.tolist(), profile.tolist()]
            for name, (edges, profile) in zip(PAIR_FEATURES, profiles, strict=True)
        }
    return inside


def _edges(model: nn.Module, data: JetDataset, index: int, target: int) -> list[list[float]]:
    """The most important edges of the first block: source, target, importance."""
    batch = collate(data, torch.tensor([index]))
    x, p4, jet, *others = batch_arguments(batch)
    first = edge_importance(model, x, p4, jet, target, others)[0]
    values = first.importance.flatten()
    top = values.abs().argsort(descending=True)[:_DRAWN_EDGES]
    k = first.neighbors.shape[1]
    real = first.neighbors.flatten()[top] < len(first.neighbors)
    top = top[real]
    ends = torch.stack([first.neighbors.flatten()[top], top // k])
    if data.order is not None:  # the jet is drawn with its particles as they were given
        ends = data.order[data.ptr[index] + ends] - data.ptr[index]
    return torch.cat([ends.double(), values[top].double().unsqueeze(0)]).t().tolist()
