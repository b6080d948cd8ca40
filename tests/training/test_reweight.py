"""Weights that equalise the spectra of the classes in a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pcloud import train
from pcloud.errors import InputError, UnknownNameError
from pcloud.evaluation.figures.spectra import spectra_figure
from pcloud.report import write_report
from pcloud.training.interrupt import Interrupted
from pcloud.training.reweight import (
    _MAX_BINS,
    Reweighting,
    Spectra,
    flattening_weights,
    observable_names,
)


def draw(number: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, number)
    values = np.stack(
        [generator.exponential(1 + labels), generator.normal(labels, 1 + labels)], axis=1
    )
    return values, labels


@pytest.mark.parametrize("dimensions", [1, 2])
def test_every_bin_has_the_same_share_of_each_class(dimensions: int):
    values, labels = draw()
    values = values[:, :dimensions]
    weights, edges, _, _ = flattening_weights(values, labels, 2)
    shares = []
    for c in (0, 1):
        jets = labels == c
        inside = [np.append(e[:-1], np.inf) for e in edges]
        counts, _ = np.histogramdd(values[jets], inside, weights=weights[jets])
        shares.append(counts / weights[jets].sum())
        assert weights[jets].sum() == pytest.approx(jets.sum())  # the class keeps its sum
    np.testing.assert_allclose(shares[0], shares[1], atol=1e-12)


def test_no_weight_exceeds_the_maximum_or_what_the_common_spectrum_allows():
    values, labels = draw()
    weights, _, ratios, capped = flattening_weights(values, labels, 2, maximum=1e6)
    assert capped == 0
    assert weights.max() < 10
    assert weights.max() == ratios.max()
    weights, _, _, capped = flattening_weights(values, labels, 2, maximum=1.2)
    assert capped > 0
    for c in (0, 1):
        assert weights[labels == c].sum() == pytest.approx((labels == c).sum())


def test_weights_that_jets_have_are_part_of_the_spectrum():
    values, labels = draw()
    generator = np.random.default_rng(1)
    own = generator.lognormal(0, 0.7, len(labels)) * np.exp(0.3 * values[:, 1])
    weights, (edges,), _, _ = flattening_weights(values[:, :1], labels, 2, own)
    places = np.append(edges[:-1], np.inf)
    shares = [
        np.histogram(values[labels == c, 0], places, weights=weights[labels == c])[0]
        / own[labels == c].sum()
        for c in (0, 1)
    ]
    np.testing.assert_allclose(*shares, atol=1e-12)


def test_equal_spectra_change_almost_nothing():
    generator = np.random.default_rng(0)
    values, labels = generator.normal(size=(20_000, 1)), generator.integers(0, 2, 20_000)
    weights, *_ = flattening_weights(values, labels, 2)
    assert weights.std() < 0.1


def test_options_that_make_no_sense_are_refused():
    assert observable_names("pt, mass") == ["pt", "mass"]
    with pytest.raises(UnknownNameError, match="mass"):
        observable_names("pt,mas")
    with pytest.raises(InputError, match="one to three different observables"):
        observable_names("pt,pt")
    values, labels = draw(200)
    with pytest.raises(InputError, match="training jets of every class"):
        flattening_weights(values, labels, 3)


def test_a_run_stores_its_reweighting_and_shows_its_closure(options: dict[str, Any]):
    run = train(**options, reweight="multiplicity", progress=False)
    stored = Reweighting.read(run.path)
    assert stored.observables == ["multiplicity"]
    (spectra,) = stored.spectra
    assert spectra.distances(spectra.after) < 0.2 * spectra.distances(spectra.before)
    assert sum(stored.size_after) < sum(stored.size_before)
    page = write_report(run.path).read_text("utf-8")
    assert "Closure of the reweighting in multiplicity" in page
    assert "effective size after" in page
    figure = spectra_figure(
        "pt", spectra.edges, spectra.before, spectra.after, spectra.errors, classes=["a", "b"]
    )
    assert len(figure.axes) == 2


def test_a_reweighted_run_continues_bit_by_bit(options: dict[str, Any], tmp_path: Path):
    from pcloud.training.callbacks import RunCheckpoint

    whole = train(**options, reweight="pt", progress=False)
    interrupted = options | {"out": str(tmp_path / "interrupted")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            RunCheckpoint, "on_train_batch_end", _stop_after(RunCheckpoint.on_train_batch_end, 3)
        )
        with pytest.raises(KeyboardInterrupt):
            train(**interrupted, reweight="pt", checkpoint_steps=1, progress=False)
    continued = train(**interrupted, reweight="pt", checkpoint_steps=1, progress=False)
    ours, theirs = (run.network("last").state_dict() for run in (continued, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    files = [run.path / "reweight.json" for run in (continued, whole)]
    assert files[0].read_text() == files[1].read_text()


def _stop_after(method: Any, number: int) -> Any:
    calls = [0]

    def stopping(self: Any, *arguments: Any, **options: Any) -> None:
        method(self, *arguments, **options)
        calls[0] += 1
        if calls[0] == number:
            raise Interrupted

    return stopping


def test_many_jets_and_three_observables_are_stored_and_read(tmp_path: Path):
    bins = _MAX_BINS**3
    spectra = Spectra("pt", [0.0, 1.0], [[1.0], [1.0]], [[1.0], [1.0]], [[0.1], [0.1]])
    edges = [[float(i) for i in range(_MAX_BINS + 1)]] * 3
    sizes = ([10, 10], [9.0, 9.0], [8.0, 8.0])
    names = ["pt", "mass", "eta"]
    ratios = [[1.0] * bins, [1.0] * bins]
    stored = Reweighting(names, edges, ratios, ["a", "b"], *sizes, 20.0, 0, 0, [spectra])
    assert Reweighting.from_dict(stored.to_dict()) == stored
