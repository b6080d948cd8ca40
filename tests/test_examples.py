"""Every example runs in an empty folder, on few jets."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

import pcloud
from pcloud.errors import InputError
from pcloud.io import write_jets
from pcloud.studies.evaluate import evaluate_run
from pcloud.studies.taylor import coefficient_planes

EXAMPLES = Path(__file__).parents[1] / "examples"

pytestmark = pytest.mark.usefixtures("small_sample")


def test_first_tagger_prints_a_rejection_with_its_error(tmp_path, run_script):
    printed = run_script("examples/first_tagger.py", "1")
    assert "±" in printed
    assert "Data(" in printed


def test_jets_become_a_figure_in_a_process_of_its_own(tmp_path):
    command = [sys.executable, EXAMPLES / "look_at_jets.py", "--out", "tops.png"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "top:" in done.stdout
    assert (tmp_path / "tops.png").stat().st_size > 20_000


def test_two_taggers_are_compared(tmp_path, run_script):
    quick = ["--models", "pfn", "particlenet_lite", "--epochs", "1", "--max-jets", "300"]
    printed = run_script("examples/compare_taggers.py", *quick)
    assert printed.count("1/εB at εS = 0.3") == 2
    assert (tmp_path / "runs" / "compare.png").stat().st_size > 5_000


def test_a_model_of_ones_own_trains(tmp_path):
    model = f"{EXAMPLES / 'my_tagger.py'}:MyTagger"
    run = pcloud.train(
        data="simulated",
        model=model,
        model_options={"width": 8},
        out=tmp_path / "mine",
        max_jets=300,
        epochs=1,
        progress=False,
    )
    scores = run.predict(pcloud.load_dataset("simulated", "test")[:10])
    assert scores.shape == (10, 2)


def test_features_data_sets_and_metrics_of_ones_own(run_script):
    quick = ("--epochs", "1", "--jets", "200", "--out", "runs/a")
    assert "'log_mt')" in run_script("examples/my_feature.py", *quick)
    assert "AUC" in run_script("examples/my_dataset.py", "--epochs", "1")
    evaluate_run(pcloud.Run("runs/a"), metrics={"num_bootstrap": 0})
    printed = run_script("examples/my_metric.py", "runs/a/scores.parquet")
    assert "median signal score" in printed


def test_jet_images_and_their_tagger(tmp_path, run_script):
    quick = ["--models", "image_cnn", "--epochs", "1", "--max-jets", "200"]
    printed = run_script("examples/jet_images.py", *quick)
    assert "image_cnn" in printed
    assert (tmp_path / "average.png").stat().st_size > 10_000


@pytest.mark.usefixtures("undrawn")
def test_spirals_that_turn_either_way_are_told_apart(tmp_path, run_script):
    printed = run_script("examples/galaxies.py", "--epochs", "1")
    assert "accuracy of the test images" in printed
    figures = tmp_path / "runs" / "galaxies_example" / "figures"
    assert (figures / "confusion_true.png").is_file()
    assert (figures / "filters.png").is_file()


def test_turned_shapes_are_seen_by_layers_and_graphs(tmp_path, run_script):
    quick = ["--images", "200", "--epochs", "1", "--models", "rotated_dense", "pixel_cloud"]
    printed = run_script("examples/digits.py", *quick)
    assert "Data(" in printed
    assert printed.count("accuracy") == 2


@pytest.fixture
def landscape(tmp_path):
    for split, number in (("train", 300), ("val", 100), ("test", 200)):
        write_jets(pcloud.load_dataset("simulated", split)[:number], tmp_path / f"{split}.h5")
    return tmp_path


@pytest.mark.usefixtures("undrawn")
def test_the_landscape_files_go_from_end_to_end(landscape, run_script):
    quick = ["--any-size", "--model", "pfn", "--epochs", "1"]
    printed = run_script("examples/landscape.py", ".", *quick)
    assert "300 jets" in printed
    assert (landscape / "runs" / "landscape" / "report.html").is_file()


def test_landscape_files_of_another_size_are_refused(landscape, run_script):
    printed = run_script("examples/landscape.py", ".", code=1)
    assert "train.h5 has 300 jets, the published one 1,211,000" in printed
    (landscape / "val.h5").unlink()
    assert "val.h5" in run_script("examples/landscape.py", ".", "--any-size", code=1)


def test_fine_tuning_against_from_scratch_becomes_a_figure_and_goes_on(tmp_path, run_script):
    quick = {"data": "simulated", "model": "pfn", "max_jets": 300, "epochs": 1, "batch_size": 50}
    pcloud.train(out=tmp_path / "first", progress=False, **quick)
    options = ["first", "--model", "pfn", "--test-jets", "500", "--steps", "5", "--seeds", "0", "1"]
    options += ["--jets", "50", "--epochs", "2"]
    printed = run_script("examples/fine_tuning.py", *options, "--max-runs", "1")
    assert "| 50 | from scratch | 1 | 0." in printed
    printed = run_script("examples/fine_tuning.py", *options)
    assert printed.count("finished; best") == 4 - 1
    assert "| 50 | fine-tuned | 2 | 0." in printed
    assert (tmp_path / "runs" / "fine_tuning" / "fine_tuning.png").stat().st_size > 20_000


SCRIPTS = [
    str(path.relative_to(EXAMPLES.parent))
    for folder in (EXAMPLES, EXAMPLES.parent / "benchmarks")
    for path in sorted(folder.glob("*.py"))
    if "argparse" in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_explains_its_options(script, run_script):
    printed = run_script(script, "--help")
    assert printed.startswith("usage:")
    assert "show this help message" in printed


def test_jets_of_events_are_scored_inside_a_processor(tmp_path, run_script):
    quick = {"model": "pfn", "epochs": 1, "max_jets": 300, "progress": False}
    run = pcloud.train(data="simulated", out=tmp_path / "run", **quick)
    example = runpy.run_path(str(EXAMPLES / "coffea_processor.py"))
    events = example["make_events"](40)
    output = example["TaggerProcessor"](str(run.path)).process(events)
    counts = ak.num(events.FatJet)
    assert ak.num(output["scores"]).tolist() == counts.tolist()
    expected = run.predict(ak.flatten(events.FatJet.constituents.pf))[:, 1]
    np.testing.assert_array_equal(ak.flatten(output["scores"]), expected)
    central = abs(ak.firsts(events.FatJet).eta) < 1
    leading = ak.where(ak.fill_none(central, False), ak.firsts(output["scores"]), np.nan)
    # In another batch, matrix products round differently.
    found, expected = output["leading_score"], ak.fill_none(leading, np.nan)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert 0 < np.isfinite(output["leading_score"]).sum() < 40
    tagged = np.asarray(output["leading_score"]) > 0.5
    assert output["tagged"] == pytest.approx(ak.sum(events.genWeight[tagged]))


def test_events_are_clouds_of_leptons_jets_and_missing_energy(run_script):
    printed = run_script("examples/event_cloud.py", "--epochs", "1", "--events", "300")
    assert "top pair" in printed
    assert "AUC" in printed


def test_events_of_nanoaod_are_clouds(reference_data):
    example = runpy.run_path(str(EXAMPLES / "event_cloud.py"))
    names = [f"{kind}_{name}" for kind in example["KINDS"] for name in example["COLUMNS"]]
    path = reference_data / "nanoAOD_2015_CMS_Open_Data_ttbar.root"
    with uproot.open(path) as file:
        events = file["Events"].arrays(filter_name=names)
    clouds = example["clouds"](events)
    counts = 1 + ak.num(events.Electron_pt) + ak.num(events.Muon_pt) + ak.num(events.Jet_pt)
    assert ak.num(clouds.p4).tolist() == counts.tolist()
    jets = ak.flatten(clouds.p4.pt[clouds.kind == 2])
    np.testing.assert_allclose(jets, ak.flatten(events.Jet_pt), rtol=1e-6)
    assert not ak.any(clouds.charge[clouds.kind > 1])
    pcloud.JetDataset(clouds, "kin")  # physical momenta


def test_variables_of_a_table_are_ranked_beside_boosted_trees(run_script):
    printed = run_script("examples/higgs.py", "--epochs", "1")
    assert "boosted trees" in printed
    assert "DER_mass_MMC, DER_deltaeta_jet_jet" in printed


def test_networks_on_pulses_are_compared(run_script):
    printed = run_script("examples/pulses.py", "--epochs", "1", "--records", "300")
    assert printed.count("series_lstm") >= 2


def test_detectors_stand_beside_observables(tmp_path, run_script):
    quick = ["--jets", "300", "--epochs", "1", "--codes", "2", "--models"]
    with pytest.warns(match="the detector has collapsed"):
        printed = run_script("examples/anomaly.py", *quick)
    assert printed.count("multiplicity alone") + printed.count("mass alone") >= 1
    assert printed.count("rank correlation with multiplicity") == 2
    for name in ("code_size", "denoising"):
        assert (tmp_path / "runs" / "anomaly" / f"{name}.png").stat().st_size > 5_000


@pytest.mark.filterwarnings("ignore::pcloud.training.constant.NothingLearnedWarning")
def test_coefficients_of_the_lecture_have_maps_by_epoch(tmp_path, run_script):
    printed = run_script("examples/taylor_lecture.py", "--events", "600", "--epochs", "2")
    assert printed.count("<|t(x1, x2)|>") == 2
    assert "lecture 0.16" in printed
    for name in ("shifted_course", "shifted_planes", "correlated_planes"):
        assert (tmp_path / "runs" / "taylor_lecture" / f"{name}.png").stat().st_size > 5_000
    run = pcloud.Run("runs/taylor_lecture/correlated")
    planes = coefficient_planes(run, ["x1", "x2"], [1])
    assert planes[1].shape == (32, 32)
    with pytest.raises(InputError, match="no weights of epoch 7; it has 1 to 2"):
        coefficient_planes(run, ["x1"], [1, 7])
