from __future__ import annotations

from pathlib import Path

import awkward as ak
import numpy as np
import pytest

import pcloud
from pcloud.cli import main
from pcloud.errors import InputError
from pcloud.evaluation import read_metrics, read_scores
from pcloud.io import write_jets
from pcloud.run import Run
from pcloud.studies.anomaly import StoredAnomaly, anomaly_run
from pcloud.studies.weak import StoredWeak
from pcloud.training.one_sample import mixed_indices
from tests.training.conftest import make_jets

pytestmark = [
    pytest.mark.filterwarnings("ignore::pcloud.training.constant.NothingLearnedWarning"),
    pytest.mark.filterwarnings("ignore::pcloud.training.doubts.DoubtfulJetsWarning"),
]

OPTIONS = ["--batch-size", "64", "--epochs", "3", "-q"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("anomaly")
    write_jets(make_jets(800), folder / "jets.parquet")
    words = ["--data", str(folder / "jets.parquet"), "--objective", "anomaly"]
    network = ["--model", "cloud_autoencoder", "--model-options.width", "16"]
    out = ["--out", str(folder / "run"), "--lr", "0.01"]
    assert main(["train", *words, *network, *out, *OPTIONS]) == 0
    assert main(["evaluate", str(folder / "run"), "--bootstrap", "0"]) == 0
    return folder


def test_the_score_of_a_detector_is_written_as_that_of_a_tagger(folder, capsys):
    run = Run(folder / "run")
    assert run.classes == ["a", "b"]
    scores = read_scores(folder / "run" / "scores.parquet")
    assert set(np.unique(scores.labels)) == {0, 1}  # the test jets keep both classes
    table = read_metrics(folder / "run")
    assert "auc" in table.entries
    assert "accuracy" not in table.entries
    out = folder / "more.parquet"
    assert main(["predict", str(folder / "run"), str(folder / "jets.parquet"), "-o", str(out)]) == 0
    jets = make_jets(20, seed=5)
    again = Run(folder / "run").predict(ak.concatenate([jets, jets]))
    np.testing.assert_array_equal(again[:20], again[20:])


def test_a_detector_stands_beside_observables(folder):
    stored = StoredAnomaly.read(folder / "run")
    assert [row.name for row in stored.rows_of][:2] == ["cloud_autoencoder", "multiplicity"]
    assert stored.rows_of[1].counting == pytest.approx(1)
    assert "the detector has collapsed" in stored.notes[0]  # by 18 steps
    assert any("mean score" in note for note in stored.notes)
    again = anomaly_run(Run(folder / "run"))
    assert again.rows() == stored.rows()


@pytest.mark.usefixtures("undrawn")
def test_the_report_has_a_section_on_anomalies_and_no_confusion_matrix(folder):
    page = Run(folder / "run").report().read_text(encoding="utf-8")
    assert "Anomaly detection" in page
    assert "rank correlation with multiplicity" in page
    assert "Confusion matrix" not in page


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_only_the_first_class_is_learned(folder, tmp_path):
    jets = make_jets(300)
    background = jets[np.asarray(jets.label) == 0]
    background.attrs["classes"] = ["a", "b"]
    options = {"model": "cloud_autoencoder", "objective": "anomaly", "epochs": 1, "progress": False}
    options |= {"model_options": {"width": 4, "num_particles": 3}, "batch_size": 50}
    losses = []
    for name, sample in (("all", jets), ("background", background)):
        run = pcloud.train(data=sample, val=jets, out=tmp_path / name, **options)
        losses.append(run.history[-1]["train_loss"])
    assert losses[0] == losses[1]


def test_mixtures_have_their_fractions_and_no_jet_twice():
    labels = np.random.default_rng(0).integers(0, 2, 5000)
    for fractions in ((0.0, 0.05), (0.3, 0.7), (0.0, 1.0)):
        indices, mixture = mixed_indices(labels, ("a", "b"), fractions, seed=1)
        assert len(np.unique(indices)) == len(indices)
        assert abs(int((mixture == 0).sum()) - int((mixture == 1).sum())) <= 1
        for i, fraction in enumerate(fractions):
            assert labels[indices[mixture == i]].mean() == pytest.approx(fraction, abs=1e-3)


def test_a_tagger_of_mixed_samples_knows_the_classes(folder, tmp_path, capsys):
    words = ["--data", str(folder / "jets.parquet"), "--model", "pfn", "--fractions", "0.9"]
    options = ["--seeds", "2", "--lr", "0.01", "--out", str(tmp_path / "weak")]
    assert main(["weak", *words, *options, *OPTIONS[:-1], "-q"]) == 0
    found = StoredWeak.read(tmp_path / "weak")
    assert [point.fraction for point in found.points] == [0.9]
    assert found.points[-1].area.value > 0.7
    assert "90 %" in capsys.readouterr().out
    assert (tmp_path / "weak" / "figures" / "weak.png").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "pfn", "objective": "anomaly"}, "anomaly needs an anomaly detector"),
        ({"model": "cloud_autoencoder"}, "it needs --objective anomaly"),
        ({"model": "pfn", "mix": [0.5, 0.2]}, "the smaller one first"),
        ({"model": "pfn", "mix": [0.0, 1e-6]}, "one of them without b"),
        ({"model": "pfn", "mix": [0.0, 0.1], "objective": "pt:squared"}, "mix needs"),
        ({"objective": ["anomaly", "pt:squared"]}, "learned alone"),
        ({"objective": "anomaly", "mix": [0.0, 0.1]}, "one class alone"),
        ({"objective": "anomaly", "model_options": {"code_size": 0}}, "must be positive"),
    ],
)
def test_bad_options_are_refused(folder, tmp_path, options, message):
    given = {"model": "cloud_autoencoder", "data": str(folder / "jets.parquet")} | options
    with pytest.raises(InputError, match=message):
        pcloud.train(out=tmp_path / "run", progress=False, **given)
