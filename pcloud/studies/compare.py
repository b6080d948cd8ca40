"""Study of the difference of two files of jets, with the scores of a run."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from pcloud.batch import JetDataset, JetLoader
from pcloud.errors import InputError, UnknownNameError
from pcloud.evaluation.figures import save_figure
from pcloud.evaluation.figures.shift import shift_figure
from pcloud.evaluation.shift import ShiftTest, compare_jets, jet_columns
from pcloud.evaluation.shift_classifiers import CLASSIFIERS, Booleans, Classifier
from pcloud.io import read_jets
from pcloud.models import build_model, list_models
from pcloud.run_files import SHIFT_FOLDER, check_writable, make_folder
from pcloud.studies.names import absolute_sources, free_name, readable_name
from pcloud.training.run_folder import RunFolder

__all__ = ["compare_files", "named_classifier", "network_classifier"]


def compare_files(
    first: str,
    second: str,
    *,
    run: RunFolder | str | Path | None = None,
    out: str | Path | None = None,
    classifier: str = "boosting",
    max_jets: int = 20_000,
    permutations: int = 1000,
    seed: int = 0,
    identifiers: bool = False,
    **reading: Any,
) -> tuple[ShiftTest, list[Path]]:
    """Test if the jets of two files differ.

    Parameters
    ----------
    first, second : str
        The files.
    run : RunFolder or path, optional
        A run: the log-odds of its classes are observables too, and the result is written into the
        folder ``shift`` of its results, from which its report shows it.
    out : path, optional
        Folder for the result, ``<first>_<second>.json`` and ``.png``, by default that of the run;
        with a run they are in its folder ``shift``. Where this name is
        taken by a comparison of other files, a digest of the inputs is appended.
    max_jets : int
        Largest number of jets of each file, drawn at random.
    classifier : str
        ``"boosting"`` or ``"logistic"`` on observables, or the name of a model, trained on the
        particles.
    permutations, seed, identifiers
        As for :func:`pcloud.evaluation.shift.compare_jets`.
    **reading
        Options of :func:`pcloud.read_jets`.

    Returns
    -------
    ShiftTest
        The result.
    list of Path
        Paths of the files that were written.

    Raises
    ------
    UnknownNameError
        If there is no such classifier.
    InputError
        If the folders cannot be written to.
    """
    trained = named_classifier(classifier)  # raises before large files are read
    tagger = RunFolder(run) if isinstance(run, str | Path) else run
    folders = []
    if out is not None:
        folders.append(make_folder(out))
        check_writable(out)
    if tagger is not None:
        tagger = tagger.writing_to(out)
        tagger.checksum()  # raises before large files are read, as below
        tagger.check_classes("a comparison of scores")
        tagger.check_writable()
        folders = [tagger.out / SHIFT_FOLDER]
    samples = [_drawn(read_jets(path, **reading), max_jets, seed) for path in (first, second)]
    found = compare_jets(
        *samples,
        classifier=trained,
        scores=None if tagger is None else tagger.predict,
        permutations=permutations,
        seed=seed,
        identifiers=identifiers,
    )
    inputs = {
        "files": absolute_sources([first, second]),
        "classifier": classifier,
        "max_jets": max_jets,
        "reading": {key: str(value) for key, value in reading.items()},
    }
    found = replace(found, classifier=classifier, inputs=inputs)
    stem = f"{readable_name(first)}_{readable_name(second)}"
    files = []
    columns = [jet_columns(jets) for jets in samples]
    shown = [d for d in found.differences if all(d.observable in c for c in columns)]
    for folder in folders:
        name = free_name(stem, inputs, partial(_stored_inputs, folder))
        files.append(found.write(folder / f"{name}.json"))
        names = (Path(first).stem, Path(second).stem)
        files += save_figure(shift_figure(*columns, shown, names=names), folder / name)
    return found, files


def _stored_inputs(folder: Path, name: str) -> dict[str, Any] | None:
    """Inputs of the comparison with a name, empty if not known; None if there is none."""
    path = folder / f"{name}.json"
    if not path.exists():
        return None
    try:
        return ShiftTest.read(path).inputs
    except InputError:
        return {}


def _drawn(jets: ak.Array, number: int, seed: int) -> ak.Array:
    if len(jets) <= number:
        return jets
    return jets[np.sort(np.random.default_rng(seed).permutation(len(jets))[:number])]


def named_classifier(name: str) -> Classifier:
    """Classifier of two samples by its name, or by that of a model.

    Raises
    ------
    UnknownNameError
        If there is neither.
    """
    if name in CLASSIFIERS:
        return CLASSIFIERS[name]
    if name not in list_models() and ":" not in name:
        raise UnknownNameError("classifier", name, [*CLASSIFIERS, *list_models()])
    return network_classifier(name)


def network_classifier(
    name: str, *, epochs: int = 5, batch_size: int = 128, lr: float = 3e-3, features: str = "kin"
) -> Classifier:
    """Classifier that trains a registered model on the particles, from random weights.

    Parameters
    ----------
    name : str
        Name of the model.
    epochs, batch_size : int
        Number of passes over the jets, and of jets per step.
    lr : float
        Learning rate of AdamW.
    features : str
        Name of the feature set.
    """

    def classify(samples: Any, is_second: Booleans, in_test: Booleans, seed: int) -> NDArray[Any]:
        jets = ak.with_field(samples.jets(), is_second.astype(np.int64), "label")
        data = JetDataset(jets, features)
        parts = [data[torch.from_numpy(np.flatnonzero(part))] for part in (~in_test, in_test)]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = build_model(name, in_features=data.x.shape[1])
            optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
            for batch in _epochs(JetLoader(parts[0], batch_size, shuffle=True, seed=seed), epochs):
                loss = F.cross_entropy(model(batch.x, batch.p4, batch.batch), batch.y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        model.eval()
        with torch.no_grad():
            found = [model(b.x, b.p4, b.batch) for b in JetLoader(parts[1], 512)]
        logits = torch.cat(found).double()
        return (logits[:, 1] - logits[:, 0]).numpy()

    return classify


def _epochs(loader: Any, number: int) -> Any:
    for _ in range(number):
        yield from loader
