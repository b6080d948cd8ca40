"""The form of CMS: preprocessed features of one jet, and a JSON file that describes them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import awkward as ak
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.errors import InputError
from pcloud.export.graph import PROBABILITIES, Outputs
from pcloud.export.options import ExportOptions
from pcloud.export.parity import Batch, hardest
from pcloud.export.source import CloudSource, features_of
from pcloud.feature import Feature
from pcloud.models.efn import EFN
from pcloud.nn.graph.coordinates import eta_phi
from pcloud.nn.layout import RaggedLayout
from pcloud.order import canonical_order_of_padded, stable_order
from pcloud.training.run_folder import RunFolder

__all__ = ["CmsGraph", "CmsSource"]

_PARTICLES = "pf"
_NO_BOUND = 1e32  # of a feature without bounds, as in the files of CMS
_VECTORS = ("px", "py", "pz", "energy")
_POINTS = ("rel_eta", "rel_phi")
_PADDING = (1.0, 1.0, 0.0, 0.0)


class CmsGraph(nn.Module):
    """Probabilities from preprocessed features of one jet, with one output per class.

    For each collection there are ``points (1, 2, L)``, ``features (1, F, L)``, ``vectors (1, 4, L)``
    (px, py, pz, E) and ``mask (1, 1, L)``, named ``pf_points`` and so on.

    Parameters
    ----------
    networks : sequence of Module
        Network, or members of an ensemble.
    outputs : Outputs
        Predictions from their outputs.
    collections : mapping of str to int
        Number of features of each collection by its name.
    classes : sequence of str
        Names of the classes.
    empty_slots : int
        Empty slots in the neighbour search.
    """

    padded = False
    padding: Tensor

    def __init__(
        self,
        networks: Sequence[nn.Module],
        outputs: Outputs,
        collections: Mapping[str, int],
        classes: Sequence[str],
        empty_slots: int,
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleList(map(_on_points, networks))
        self.outputs = outputs
        self.collections = dict(collections)
        self.classes = list(classes)
        self.empty_slots = empty_slots
        self.names = [
            f"{name}_{kind}"
            for name in collections
            for kind in ("points", "features", "vectors", "mask")
        ]
        self.register_buffer("padding", torch.tensor(_PADDING), persistent=False)

    @torch.no_grad()
    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Outputs (1, 1) in the order of :meth:`predict`."""
        return tuple(self.predict(dict(zip(self.names, tensors, strict=True))).values())

    def predict(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Outputs (1, 1) by the name of the class or target, from inputs by name."""
        x, p4, layout = self._rows(given)
        found = [network(x, p4, layout.batch, layout)[:1] for network in self.networks]
        outputs = self.outputs(found)
        named: dict[str, Tensor] = {}
        for name, values in outputs.items():
            if name == PROBABILITIES:
                named |= dict(zip(self.classes, values.split(1, dim=1), strict=True))
            else:
                named[name] = values.unsqueeze(1)
        return named

    def _rows(self, given: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, RaggedLayout]:
        """Features, momenta and layout of the rows of all collections, entries first."""
        width = max(self.collections.values())
        parts = []
        for i, (name, number) in enumerate(self.collections.items()):
            mask = F.pad(given[f"{name}_mask"][:, 0] > 0.5, (0, 1))  # (1, L + 1)
            columns = [F.pad(given[f"{name}_{kind}"], (0, 1)).mT for kind in ("features", "points")]
            momenta = F.pad(given[f"{name}_vectors"], (0, 1)).mT[..., [3, 0, 1, 2]]
            momenta = torch.where(mask.unsqueeze(-1), momenta, self.padding)
            order = canonical_order_of_padded(momenta, mask, columns[0].unbind(-1))
            number_of_row = torch.full_like(momenta[..., :1], float(i))
            wide = F.pad(columns[0], (0, width - number))
            whole = torch.cat([wide, columns[1], momenta, number_of_row], dim=-1)
            whole = whole.gather(1, order.unsqueeze(-1).expand(-1, -1, whole.shape[-1]))
            parts.append((whole, mask.gather(1, order)))
        rows = torch.cat([values for values, _ in parts], dim=1)
        mask = torch.cat([mask for _, mask in parts], dim=1)
        if len(parts) > 1:
            order = stable_order([(~mask).float()])
            rows = rows.gather(1, order.unsqueeze(-1).expand(-1, -1, rows.shape[-1]))
        layout = RaggedLayout.of_padded(mask.long().sum(1), rows.shape[1], self.empty_slots)
        x, points, p4, collection = rows.flatten(0, 1).split([width, 2, 4, 1], dim=-1)
        further = collection.squeeze(-1).long() if len(parts) > 1 else None
        return x, p4, replace(layout, pos=points, collection=further)


def _on_points(network: nn.Module) -> nn.Module:
    """Network that takes the positions of the layout in its first neighbour search."""
    changed = copy.deepcopy(network)
    for module in changed.modules():
        if hasattr(module, "coordinates"):
            setattr(module, "coordinates", _points)  # noqa: B010 (a function, no parameter)
    return changed


def _points(p4: Tensor, layout: RaggedLayout) -> Tensor:
    assert layout.pos is not None
    return layout.pos


class CmsSource(CloudSource):
    """Run on jets in the form of CMS.

    Parameters
    ----------
    run : RunFolder
        The trained tagger.
    options : ExportOptions
        Form of the graph.
    jets : awkward.Array
        Jets of the test split.

    Raises
    ------
    InputError
        If the network takes something that this form does not have.
    """

    def __init__(self, run: RunFolder, options: ExportOptions, jets: ak.Array) -> None:
        _check(run)
        super().__init__(run, options, jets)
        if options.max_particles is None:
            longest = max(len(jet["p4"]) for jet in self.arrays)
            self.options = replace(options, max_particles=longest)
        if self.inputs.has_jet_p4 and any(
            isinstance(m, EFN) for tagger in self.taggers for m in tagger.model.modules()
        ):
            raise InputError(
                "EFN takes the momentum of the jet, which the form of CMS does not have"
            )
        self.rows = self.plain_graph()

    @property
    def collections(self) -> dict[str, tuple[Feature, ...]]:
        """Features of each collection by its name in the file."""
        names = [_PARTICLES, *(part.name for part in self.features.collections)]
        return dict(zip(names, self.features.parts, strict=True))

    def graph(self) -> CmsGraph:
        """Function from preprocessed features to probabilities."""
        widths = {name: len(features) for name, features in self.collections.items()}
        return CmsGraph(
            self.networks,
            self.outputs,
            widths,
            self.run.classes,
            max(self.searches, default=0),
        ).eval()

    def shapes(self) -> dict[str, list[str | int]]:
        """Shape of each input by name; the number of entries is free."""
        found: dict[str, list[str | int]] = {}
        for name, features in self.collections.items():
            sizes = {"points": 2, "features": len(features), "vectors": 4, "mask": 1}
            found |= {f"{name}_{kind}": [1, n, f"num_{name}"] for kind, n in sizes.items()}
        return found

    def example(self) -> list[Tensor]:
        """Inputs with which the graph is recorded."""
        lengths = {f"num_{name}": 11 + 2 * i for i, name in enumerate(self.collections)}
        generator = torch.Generator().manual_seed(0)
        sizes = [
            [n if isinstance(n, int) else lengths[n] for n in shape]
            for shape in self.shapes().values()
        ]
        return [torch.rand(size, generator=generator) for size in sizes]

    @torch.no_grad()
    def batches(self) -> Iterator[Batch]:
        """Inputs of a session for each jet, by the features of the run."""
        assert self.options.max_particles is not None
        for i, jet in enumerate(self.arrays):
            short = hardest(jet, self.inputs, self.options.max_particles)
            yield i, self._feed({name: torch.from_numpy(v) for name, v in short.items()})

    def _feed(self, jet: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        x, p4, layout = self.rows.arguments(self.rows._as_batch(jet))
        pos = eta_phi(p4, layout)
        collection = torch.zeros_like(layout.batch)
        if layout.collection is not None:
            collection = layout.collection
        feed = {}
        for i, (name, features) in enumerate(self.collections.items()):
            rows = (layout.batch == 0) & (collection == i)
            number = max(1, int(rows.sum()))
            parts = {
                "points": pos[rows],
                "features": x[rows, : len(features)],
                "vectors": p4[rows][:, [1, 2, 3, 0]],
                "mask": torch.ones(int(rows.sum()), 1),
            }
            for kind, values in parts.items():
                padded = F.pad(values, (0, 0, 0, number - len(values)))
                feed[f"{name}_{kind}"] = padded.t().unsqueeze(0).contiguous().numpy()
        return feed

    def reference(self) -> dict[str, np.ndarray]:
        """Outputs of the run by the name of the class or target, (B, 1, 1)."""
        named: dict[str, np.ndarray] = {}
        for name, values in super().reference().items():
            if name == PROBABILITIES:
                named |= dict(zip(self.run.classes, values.T, strict=True))
            else:
                named[name] = values
        return {name: values.reshape(-1, 1, 1) for name, values in named.items()}

    def output_names(self) -> list[str]:
        """Names of the outputs: the classes, then the targets."""
        targets = [name for name in self.outputs.names() if name != PROBABILITIES]
        return [*self.run.classes, *targets]

    def described_inputs(self) -> list[dict[str, Any]]:
        """Name, shape and type of each input; preprocess.json describes their variables."""
        return [{"name": n, "shape": s, "type": "float32"} for n, s in self.shapes().items()]

    def metadata(self) -> dict[str, Any]:
        """Entries of the metadata of the file."""
        return super().metadata() | {"form": "cms", "preprocess": self.preprocess()}

    def preprocess(self) -> dict[str, Any]:
        """Contents of ``preprocess.json``: variables of each input, in order, with their scaling."""
        content: dict[str, Any] = {
            "input_names": list(self.shapes()),
            "output_names": self.output_names(),
        }
        for name, features in self.collections.items():
            longest = self.options.max_particles
            if name != _PARTICLES:
                longest = max(
                    1, *(len(jet[f"{name}.{self._a_column(name)}"]) for jet in self.arrays)
                )
            lengths = {"min_length": 1, "max_length": longest}
            variables = {
                "points": {variable: _info() for variable in _POINTS},
                "features": {f.name: _info(f) for f in features},
                "vectors": {variable: _info() for variable in _VECTORS},
                "mask": {"mask": _info()},
            }
            for kind, infos in variables.items():
                content[f"{name}_{kind}"] = lengths | {
                    "var_names": list(infos),
                    "var_infos": infos,
                }
        return content

    def _a_column(self, collection: str) -> str:
        part = next(part for part in self.inputs.collections if part.name == collection)
        return "p4" if part.has_momenta else part.columns[0]


def _info(feature: Feature | None = None) -> dict[str, float]:
    """Preprocessing of a variable: ``clip((x - median) * norm_factor, lower_bound, upper_bound)``."""
    feature = feature or Feature("as_it_is")
    low = -_NO_BOUND if feature.low is None else feature.low
    high = _NO_BOUND if feature.high is None else feature.high
    return {
        "median": feature.shift,
        "norm_factor": feature.scale,
        "replace_inf_value": 0.0,
        "lower_bound": low,
        "upper_bound": high,
        "pad": 0.0,
    }


def _check(run: RunFolder) -> None:
    features = features_of(run)
    if features.jet_features:
        raise InputError(
            f"the form of CMS has no features of jets ({', '.join(features.jet_names)}): use --form "
            "plain"
        )
    categories = [f.name for part in features.parts for f in part if f.is_category]
    if categories:
        raise InputError(
            f"the form of CMS has no categories ({', '.join(categories)}): use --form plain"
        )
