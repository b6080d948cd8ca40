"""Attribution of a run: what ``pcloud explain --method`` computes and leaves in its folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import nn

from pcloud.batch import JetDataset, collate
from pcloud.errors import InputError, UnknownNameError
from pcloud.features import FeatureSet
from pcloud.interpret.attention import PAIR_FEATURES, attention_maps
from pcloud.interpret.attribution import METHODS, Attribution, attribute
from pcloud.interpret.edges import edge_importance
from pcloud.interpret.jets import Plane, mean_image, worst_and_typical
from pcloud.io.jets import FlatJets
from pcloud.nn.attention.attention import SelfAttention
from pcloud.nn.graph.edge_conv import EdgeBlock
from pcloud.studies.heatmaps import heatmaps, network_and_images
from pcloud.training.inputs import Inputs, Sample

if TYPE_CHECKING:
    from pcloud.training import Run

__all__ = [
    "ATTRIBUTION_FILE",
    "attribute_run",
    "explained_classes",
    "feature_rows",
    "read_attribution",
]

ATTRIBUTION_FILE = "attribution.json"

_JETS = 200
_DRAWN = 2  # jets of each class that are drawn, of those taken for another and of typical ones
_EDGES = 60  # the most important edges of a jet
_PAIR_JETS = 100  # whose attention is averaged


def attribute_run(
    run: Run,
    methods: Sequence[str],
    *,
    signal: str | None = None,
    jets: int | None = None,
    checkpoint: str = "best",
    advance: Callable[[float], Any] = lambda part: None,
    **options: Any,
) -> dict[str, Any]:
    """Attribute the decisions of a run on its test jets, and write ``attribution.json``.

    Parameters
    ----------
    run : Run
        The trained tagger, on jets or on images. Of networks that make an image of a jet the
        pixels are attributed to.
    methods : sequence of str
        Of :data:`~pcloud.interpret.attribution.METHODS`.
    signal : str, optional
        Class whose log-odds are attributed; by default the second of two, or each in turn.
    jets : int, optional
        Number of test jets, the first ones, whose attributions are averaged. By default 200, or
        what the network passes in some minutes. Drawn are the most misclassified and typical ones
        of all test jets.
    checkpoint : str
        ``"best"`` or ``"last"``.
    advance : callable
        Called with the part of the whole work that was done.
    **options
        Of :func:`~pcloud.interpret.attribution.attribute`.

    Returns
    -------
    dict
        As in the file: where several classes are explained, one dict for each in ``"classes"``.
    """
    from pcloud.studies.budget import jets_within_budget
    from pcloud.training.data import load_splits

    for method in methods:
        if method not in METHODS:
            raise UnknownNameError("attribution method", method, METHODS)
    if signal is not None and signal not in run.classes:
        raise UnknownNameError("class", signal, run.classes)
    signals = [signal] if signal else run.classes[1:] if len(run.classes) == 2 else run.classes
    (test,) = load_splits(run.config, "test")
    if jets is None:
        passes = sum(_passes(method, **options) for method in methods) * len(signals)
        jets = jets_within_budget(run, test, passes=passes, most=_JETS, checkpoint=checkpoint)
    explained = _Explained.of(run, test, jets, checkpoint)
    found = {
        name: _attribute_class(
            explained,
            run.classes.index(name),
            methods,
            advance=lambda part: advance(part / len(signals)),
            only_own=len(signals) > 1,
            **options,
        )
        for name in signals
    }
    return _write(run.path, found[signals[0]] if len(signals) == 1 else {"classes": found})


@dataclass(frozen=True)
class _Explained:
    """A network and the test jets on which it is explained: the first ones, and those to draw."""

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
    def of(cls, run: Run, test: Sample, number: int, checkpoint: str) -> _Explained:
        number = min(number, len(test))
        labels, scores = np.asarray(test.label), run.predict(test, checkpoint=checkpoint)
        chosen = worst_and_typical(labels, scores, _DRAWN if len(run.classes) < 4 else 1)
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
        """Jets to draw: place in the sample, in the test jets, and why; only of a class if asked."""
        places = range(self.number, len(self.labels))
        return [
            (place, index, why)
            for place, (index, why) in zip(places, self.chosen, strict=True)
            if not only_own or self.labels[place] == target
        ]


def _attribute_class(
    explained: _Explained,
    target: int,
    methods: Sequence[str],
    advance: Callable[[float], Any],
    only_own: bool,
    **options: Any,
) -> dict[str, Any]:
    """Attribute the log-odds of one class."""
    about = {
        "signal": explained.classes[target],
        "jets": explained.number,
        "checkpoint": explained.checkpoint,
    }
    drawn = explained.drawn(target, only_own)
    labels, scores, classes = explained.labels, explained.scores, explained.classes
    if pictures := network_and_images(explained.model, explained.sample, explained.inputs):
        places = [(place, why) for place, _, why in drawn]
        return about | heatmaps(
            *pictures, labels, scores, classes, methods, target, explained.number, places,
            advance, **options,
        )  # fmt: skip
    features = cast(FeatureSet, explained.inputs)  # what takes images was done above
    found = {
        method: attribute(
            explained.model,
            explained.sample,
            method,
            features=features,
            target=target,
            advance=lambda number: advance(number / (len(labels) * len(methods))),
            **options,
        )
        for method in methods
    }
    flat = FlatJets.from_awkward(explained.sample)
    plane = Plane.of(flat)
    first = {method: a.first(explained.number) for method, a in found.items()}
    own_places = [place for place, _, _ in drawn]
    return {
        **about,
        "methods": {method: _summary(a) for method, a in first.items()},
        "images": _images(flat, labels[: explained.number], classes, first),
        "drawn": [
            {"index": index, **_drawn(place, why, flat, plane, found, classes, labels, scores)}
            for place, index, why in drawn
        ],
        **_inside(explained, features, target, own_places),
    }


def _write(folder: Path, values: dict[str, Any]) -> dict[str, Any]:
    (folder / ATTRIBUTION_FILE).write_text(json.dumps(values) + "\n", encoding="utf-8")
    return values


def read_attribution(folder: str | Path) -> dict[str, Any]:
    """Read the ``attribution.json`` of a run folder.

    Raises
    ------
    InputError
        If it is not what ``pcloud explain --method`` writes.
    """
    path = Path(folder) / ATTRIBUTION_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        for values in explained_classes(found):
            values["methods"], values["drawn"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} holds no attribution ({error}): write it anew with pcloud explain --method"
        ) from None
    return found


def explained_classes(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The attributions of the classes that :func:`attribute_run` explained, one after another."""
    return list(found["classes"].values()) if "classes" in found else [found]


def feature_rows(found: dict[str, Any]) -> list[list[str]]:
    """A table of one class: the share of every feature, a column for each method with features."""
    methods = {m: v["shares"] for m, v in found["methods"].items() if len(v.get("shares", ())) > 1}
    if not methods:
        return []
    names = list(next(iter(methods.values())))
    rows = [["part of all attribution", *(m.replace("_", " ") for m in methods)]]
    return rows + [[n, *(f"{shares[n]:.3f}" for shares in methods.values())] for n in names]


def _passes(method: str, *, steps: int = 32, samples: int = 16, **options: Any) -> float:
    """How often a jet passes the network; a way back costs as much as two ways forth."""
    particles = 50  # of a jet, about
    copies = {"integrated_gradients": steps, "smoothgrad": samples, "saliency": 1}
    return 3 * copies[method] if method in copies else particles


def _summary(found: Attribution) -> dict[str, Any]:
    size = np.nanmean(np.abs(found.values), axis=0)
    shares = dict(zip(found.columns, (size / max(size.sum(), 1e-300)).tolist(), strict=True))
    summary: dict[str, Any] = {"shares": shares}
    if found.baseline is not None:
        summary["gap"] = float(np.abs(found.gap).mean())
        summary["start"] = found.start
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
    """Edges of graph networks on the drawn jets; attention of transformers, on average."""
    model, data = explained.model, JetDataset(explained.sample, features)
    inside: dict[str, Any] = {}
    kinds = {type(module) for module in model.modules()}
    if any(issubclass(kind, EdgeBlock) for kind in kinds):
        inside["edges"] = [_edges(model, data, index, target) for index in drawn]
    if any(issubclass(kind, SelfAttention) for kind in kinds):
        batch = collate(data, torch.arange(min(explained.number, _PAIR_JETS)))
        maps = attention_maps(model, batch.x, batch.p4, batch.batch)
        profiles = [maps.profile(i) for i in range(len(PAIR_FEATURES))]
        inside["attention"] = {
            name: [edges.tolist(), profile.tolist()]
            for name, (edges, profile) in zip(PAIR_FEATURES, profiles, strict=True)
        }
    return inside


def _edges(model: nn.Module, data: JetDataset, index: int, target: int) -> list[list[float]]:
    """The most important edges of the first block: source, target, importance."""
    batch = collate(data, torch.tensor([index]))
    first = edge_importance(model, batch.x, batch.p4, batch.batch, target)[0]
    values = first.importance.flatten()
    top = values.abs().argsort(descending=True)[:_EDGES]
    k = first.neighbors.shape[1]
    real = first.neighbors.flatten()[top] < len(first.neighbors)
    top = top[real]
    ends = torch.stack([first.neighbors.flatten()[top], top // k])
    if data.order is not None:  # the jet is drawn with its particles as they were given
        ends = data.order[data.ptr[index] + ends] - data.ptr[index]
    return torch.cat([ends.double(), values[top].double().unsqueeze(0)]).t().tolist()
