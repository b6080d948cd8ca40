"""Labels of particles that a run learns: found by name, and checked against the jets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import awkward as ak
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcloud.entries import num_entries, rows_of_collections
from pcloud.errors import InputError, UnknownNameError
from pcloud.io.particle_labels import UNKNOWN_LABEL
from pcloud.io.read import PARTICLE_CLASSES
from pcloud.modality import Sample
from pcloud.objectives.particle_classes import ParticleClasses
from pcloud.objectives.several import Several
from pcloud.objectives.specification import Specification

__all__ = ["check_labels", "classes_of_labels", "flat_labels", "labels_of"]

_FIELD = "particle_labels"
_MAX_UNNAMED_CLASSES = 200
_NUM_SHOWN = 8


def labels_of(jets: Sample, objective: Several, collections: Sequence[str]) -> Tensor:
    """Labels (N, L) of all rows of jets in the order of the input, for the objectives in their order.

    Parameters
    ----------
    jets : sample
        Jets.
    objective : Several
        Objectives, those of particles among them.
    collections : sequence of str
        Further collections whose entries are rows, too.
    """
    counts = [ak.num(jets.p4, axis=1).to_numpy(), *(num_entries(jets, n) for n in collections)]
    rows = rows_of_collections(counts)
    parts = objective.of_labels
    labels = torch.full((sum(map(len, rows)), len(parts)), UNKNOWN_LABEL, dtype=torch.int64)
    for i, part in enumerate(parts):
        labels[rows[part.collection], i] = torch.from_numpy(flat_labels(jets, part.name))
    return labels


def classes_of_labels(
    jets: Sample, wanted: Sequence[Specification], whose: str
) -> dict[str, list[str]]:
    """Names of the classes of the labels of particles that are learned.

    Those without names are called by their numbers.
    """
    named: Mapping[str, Sequence[str]] = jets.attrs.get(PARTICLE_CLASSES, {})
    found = {}
    for part in wanted:
        if not part.learns_particle_classes:
            continue
        if part.target in named:
            found[part.target] = list(named[part.target])
            continue
        labels = flat_labels(jets, part.target, whose)
        number = int(labels.max(initial=-1)) + 1
        if number > _MAX_UNNAMED_CLASSES:
            raise InputError(
                f"particle label {part.target!r} has values up to {number - 1:,}: is it a class? Name "
                "the classes with their values in the schema, or learn pairs"
            )
        found[part.target] = [str(i) for i in range(number)]
    return found


def check_labels(jets: Sample, objective: Several, whose: str) -> None:
    """Check that jets have the labels of particles of an objective.

    Raises
    ------
    InputError
        If one is absent, has not the number of the particles, has other classes or is no whole number;
        the message names it.
    """
    named = jets.attrs.get(PARTICLE_CLASSES, {})
    for part in objective.of_labels:
        labels = flat_labels(jets, part.name, whose)
        if not isinstance(part, ParticleClasses):
            continue
        outside = labels >= len(part.classes)
        if outside.any():
            values = np.unique(labels[outside])[:_NUM_SHOWN].tolist()
            raise InputError(
                f"particle label {part.name!r} of the {whose} has the value "
                f"{', '.join(map(str, values))} in {outside.sum():,} particles, which is none of the "
                f"classes {', '.join(part.classes)}"
            )
        classes = named.get(part.name, part.classes)
        if list(classes) != part.classes:
            raise InputError(
                f"particle label {part.name!r} of the {whose} has the classes {', '.join(classes)}, "
                f"and the run has {', '.join(part.classes)}"
            )


def flat_labels(jets: Sample, name: str, whose: str = "jets") -> NDArray[np.int64]:
    """Labels (N,) of the particles of all jets, in the order of the input.

    Raises
    ------
    InputError
        As from :func:`check_labels`.
    """
    if _FIELD not in jets.fields:
        raise InputError(
            f"the {whose} have no labels of particles, and the objective is {name!r}: the schema names "
            f"them, such as particle_labels={{{name!r}: COLUMN}}"
        )
    if name not in jets[_FIELD].fields:
        raise UnknownNameError("particle label", name, jets[_FIELD].fields, f"the {whose}")
    labels = jets[_FIELD, name]
    collection = name.rpartition(".")[0]
    if collection and collection not in jets.fields:
        raise UnknownNameError("collection", collection, jets.fields, f"the {whose}")
    entries = jets[collection] if collection else jets.p4
    numbers = ak.to_numpy(ak.num(entries, axis=1))
    try:
        counts = ak.to_numpy(ak.num(labels, axis=1))
        values = ak.to_numpy(ak.flatten(labels, axis=1), allow_missing=False)
    except (TypeError, ValueError):
        counts, values = numbers, np.empty(0, dtype=object)
    wrong = np.flatnonzero(counts != numbers)
    if len(wrong):
        first = wrong[0]
        raise InputError(
            f"particle label {name!r} of the {whose} does not match the number of particles in "
            f"{len(wrong):,} of {len(counts):,} jets: jet {first} has {numbers[first]}, and "
            f"{counts[first]} labels"
        )
    is_float = np.issubdtype(values.dtype, np.floating)
    is_whole = np.issubdtype(values.dtype, np.integer) or values.dtype == bool
    if not (is_float or is_whole) or values.ndim != 1:
        raise InputError(f"particle label {name!r} of the {whose} is not one number per particle")
    missing = np.isnan(values) if is_float else np.zeros(len(values), dtype=bool)
    whole = np.where(missing, UNKNOWN_LABEL, values).astype(np.int64)
    if not np.array_equal(whole[~missing], values[~missing]):
        raise InputError(f"particle label {name!r} of the {whose} must be whole numbers")
    return whole
