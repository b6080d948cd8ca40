from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow.parquet as pq
import pytest

import pcloud
from pcloud.cli import main
from pcloud.errors import InputError
from pcloud.evaluation import Scores
from pcloud.evaluation.calibration_file import StoredCalibration, read_calibration
from pcloud.studies.calibrate import calibrate_run
from pcloud.training.data import load_splits
from tests.evaluation.test_calibration import draw


@pytest.fixture
def run(options):
    return pcloud.train(**options, progress=False)


def test_a_calibrated_run_lowers_the_loss_of_its_validation_jets(run, jet_file):
    stored = calibrate_run(run, "vector")
    expected = dataclasses.replace(stored, classes=list(stored.classes))
    assert repr(read_calibration(run.path)) == repr(expected)  # NaN is not equal to NaN
    (jets,) = load_splits(run.config, "val")
    plain, mapped = run.predict(jets), run.predict(jets, calibrated=True)
    np.testing.assert_allclose(mapped, stored.maps["vector"](plain))
    labels = jets.label.to_numpy()
    losses = [-np.log(p[np.arange(len(p)), labels]).mean() for p in (plain, mapped)]
    assert losses[1] < losses[0]


def test_other_weights_are_not_calibrated(run, options):
    calibrate_run(run)
    (jets,) = load_splits(run.config, "val")
    with pytest.raises(InputError, match="--checkpoint last"):
        run.predict(jets, calibrated=True, checkpoint="last")
    again = pcloud.train(**options | {"seed": 3}, overwrite=True, progress=False)
    with pytest.raises(InputError, match="pcloud calibrate"):
        again.predict(jets, calibrated=True)


@pytest.mark.usefixtures("undrawn")
def test_the_commands_measure_and_use_the_calibration(run, jet_file, tmp_path, capsys):
    out = tmp_path / "scores.parquet"
    predict = ["predict", str(run.path), str(jet_file), "--out", str(out), "--calibrated"]
    assert main(predict) == 2
    assert "pcloud calibrate" in capsys.readouterr().err
    assert main(["evaluate", str(run.path), "--bootstrap", "0"]) == 0
    assert main(["calibrate", str(run.path)]) == 0
    printed = capsys.readouterr().out
    for words in ("inverse temperature", "mistag rate 0.1", "95%", "isotonic"):
        assert words in printed
    assert main(predict) == 0
    scores = run.predict(pcloud.read_jets(jet_file), calibrated=True)
    np.testing.assert_allclose(pq.read_table(out)["score_b"].to_numpy(), scores[:, 1])
    assert main(["report", str(run.path)]) == 0
    page = (run.path / "report.html").read_text("utf-8")
    assert "<h2>Calibration</h2>" in page
    assert "requested coverage" in page


def test_many_classes_have_thresholds_each(tmp_path):
    sample = Scores.from_arrays(*draw(600, classes=3), ["a", "b", "c"])
    stored = StoredCalibration.fit(sample, "isotonic", checkpoint="best", checksum=1)
    stored.write(tmp_path)
    again = read_calibration(tmp_path)
    assert again.points == stored.points
    assert [row[0] for row in again.thresholds(sample)[1:]][5] == "b, efficiency 0.3"
    assert again.comparison(sample, num_bootstrap=2) == stored.comparison(sample, num_bootstrap=2)
    wanted, coverage, size, _ = again.coverage(sample)[1]
    assert wanted == "90%"
    assert coverage.startswith("0.9")
    assert 1 < float(size) < 3


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "calibration.json").write_text('{"method": 1}')
    with pytest.raises(InputError, match=r"calibration\.json holds no calibration"):
        read_calibration(tmp_path)
