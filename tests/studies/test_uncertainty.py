from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import pcloud
from pcloud.cli import main
from pcloud.errors import InputError
from pcloud.studies.predictive import predictive_samples
from pcloud.studies.uncertainty import measure_uncertainty, read_uncertainty
from pcloud.training.data import load_splits
from pcloud.uncertainty.variational import MeanFieldHead
from tests.training.conftest import TINY, make_jets


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from pcloud.io import write_jets

    path = tmp_path_factory.mktemp("uncertain")
    write_jets(make_jets(500), path / "jets.parquet")
    return path


@pytest.fixture(scope="module")
def run(folder):
    return pcloud.train(
        data=str(folder / "jets.parquet"), model=TINY, out=str(folder / "run"), epochs=4,
        batch_size=32, lr=0.01, progress=False,
    )  # fmt: skip


@pytest.mark.parametrize("method", ["dropout", "laplace", "variational"])
def test_opinions_of_a_run_are_the_same_every_time_and_near_its_score(run, method, monkeypatch):
    monkeypatch.setattr(MeanFieldHead, "fit", partial(MeanFieldHead.fit, steps=500))
    (jets,) = load_splits(run.config, "test")
    opinions = predictive_samples(run, method, samples=30, seed=2, batch_size=16)
    logits = opinions.logits(jets)
    assert logits.shape == (30, len(jets), 2)
    np.testing.assert_allclose(opinions.logits(jets), logits)
    again = predictive_samples(run, method, samples=30, seed=2, batch_size=16)
    np.testing.assert_allclose(again.logits(jets[:16]), logits[:, :16])
    found = opinions.uncertainty(jets)
    assert found.epistemic.min() >= 0
    assert found.logit_spread.min() > 0
    labels = jets.label.to_numpy()
    losses = [
        -np.log(p[np.arange(len(labels)), labels]).mean() for p in (found.mean, run.predict(jets))
    ]
    assert losses[0] < losses[1] + 0.1


def test_a_single_run_is_no_ensemble(run):
    with pytest.raises(InputError, match="pcloud train --ensemble 5"):
        predictive_samples(run, "ensemble")
    with pytest.raises(InputError, match="samples must be at least 2"):
        predictive_samples(run, samples=1)


@pytest.mark.usefixtures("undrawn")
def test_the_command_writes_a_row_per_jet_and_the_report_shows_it(run, capsys):
    assert main(["uncertainty", str(run.path), "--samples", "10"]) == 0
    printed = capsys.readouterr().out
    assert "soft pile-up" in printed
    assert "prior precision" in printed
    stored = read_uncertainty(run.path)
    assert stored.facts["method"] == "laplace"
    assert len(stored.labels) == 45
    np.testing.assert_allclose(
        stored.jets.total - stored.jets.aleatoric, stored.jets.epistemic, atol=1e-9
    )
    assert main(["report", str(run.path)]) == 0
    assert "Uncertainty of the scores" in (run.path / "report.html").read_text("utf-8")
    (run.path / "uncertainty.json").write_text("{}")
    with pytest.raises(InputError, match="holds no uncertainties"):
        read_uncertainty(run.path)


def test_epistemic_uncertainty_falls_with_training_jets_and_grows_away_from_them(folder):
    means = {}
    for number in (40, 400):
        small = pcloud.train(
            data=str(folder / "jets.parquet"), model=TINY, out=str(folder / f"run{number}"),
            epochs=3, batch_size=32, lr=0.01, max_jets=number, progress=False,
        )  # fmt: skip
        stored = measure_uncertainty(small, samples=40)
        means[number] = stored.samples["test jets"]["logit_spread"].value
        shifted = stored.samples["soft pile-up"]["logit_spread"].value
        assert shifted > 1.3 * means[number]
    assert means[400] < 0.7 * means[40]
