from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import pcloud
from pcloud.cli import main
from pcloud.errors import InputError
from pcloud.evaluation import read_scores
from pcloud.evaluation.regression import evaluate_target
from pcloud.io import write_jets
from pcloud.objectives.columns import read_targets
from pcloud.objectives.predictions import Normal, Quantiles
from pcloud.run import Run
from pcloud.studies.intervals import read_intervals
from pcloud.training.callbacks import RunCheckpoint
from pcloud.training.data import load_splits
from pcloud.training.fit import train
from pcloud.training.jet_targets import TargetUnitWarning
from tests.objectives.conftest import OBJECTIVE, jets_with_targets

pytestmark = [
    pytest.mark.filterwarnings("ignore::pcloud.training.constant.NothingLearnedWarning"),
]


@pytest.fixture
def copied(shared_run: Run, tmp_path: Path) -> Run:
    """Copy of the shared run for studies."""
    shutil.copytree(shared_run.path, tmp_path / "run")
    return Run(tmp_path / "run", trust_code=True)


@pytest.fixture
def copied_regression(regression_run: Run, tmp_path: Path) -> Run:
    """Copy of the run without classes for studies."""
    shutil.copytree(regression_run.path, tmp_path / "run")
    return Run(tmp_path / "run", trust_code=True)


def test_each_objective_is_logged(shared_run: Run):
    columns = shared_run.history.columns
    for name in ("class", "pt", "mass"):
        assert {f"train_loss_{name}", f"val_loss_{name}", f"weight_{name}"} <= set(columns)
    assert {"val_acc", "val_auc", "val_resolution_pt", "val_resolution_mass"} <= set(columns)
    row = shared_run.history[-1]
    assert row["weight_pt"] == 1.0  # a likelihood
    assert row["weight_class"] != 1.0


def test_the_resolution_that_is_logged_is_that_of_the_validation_jets(shared_run: Run):
    (jets,) = load_splits(shared_run.config, "val")
    found = shared_run.predictions(jets, checkpoint="last")["mass"]
    truth = ak.to_numpy(jets.targets.mass)
    known = np.isfinite(truth)
    low, high = np.quantile((np.exp(found.mean.numpy()) - truth)[known], [0.158655, 0.841345])
    logged = shared_run.history[-1]["val_resolution_mass"]
    assert logged == pytest.approx((high - low) / 2, rel=1e-4)


def test_predictions_have_mean_and_intervals_and_depend_on_no_truth(shared_run: Run):
    jets = jets_with_targets(40, seed=5)
    found = shared_run.predictions(jets)
    assert list(found) == ["class", "pt", "mass"]
    assert isinstance(found["pt"], Normal)
    assert isinstance(found["mass"], Quantiles)
    without = jets[["p4"]]
    assert torch.equal(shared_run.predictions(without)["mass"].mean, found["mass"].mean)
    np.testing.assert_allclose(shared_run.predict(without), found["class"].mean.numpy())


def test_scores_of_nested_and_missing_jets_do_not_look_at_targets(shared_run: Run):
    jets = jets_with_targets(6, seed=7)
    nested = ak.unflatten(jets, [2, 0, 4])
    found = shared_run.predict(nested)
    np.testing.assert_allclose(ak.to_numpy(ak.flatten(found, axis=1)), shared_run.predict(jets))
    words = ak.with_field(jets, ak.zip({"pt": ["?"] * 6}), "targets")
    np.testing.assert_array_equal(shared_run.predict(words), shared_run.predict(jets))


def test_a_run_reads_back_its_constants(shared_run: Run, copied: Run):
    before, after = shared_run.objective, copied.objective
    assert [p.target for p in before.targets] == [p.target for p in after.targets]
    assert before.targets[1].target.transform == "log"
    assert before.targets[0].target.shift != 0
    assert torch.equal(before.log_scales, after.log_scales)


def test_the_table_and_the_file_of_scores_agree(copied: Run):
    table = copied.evaluate(num_bootstrap=0)
    samples = read_targets(copied.path / "scores.parquet")
    assert [sample.name for sample in samples] == ["pt", "mass"]
    for sample in samples:
        for name, entry in evaluate_target(sample).items():
            assert table[f"{sample.name}.{name}"].value == pytest.approx(entry.value, rel=1e-9)
    assert len(samples[1]) < len(samples[0])  # some masses are missing
    scores = read_scores(copied.path / "scores.parquet")
    assert scores.classes == ("a", "b")
    assert len(scores.labels) == len(samples[0])


def test_calibration_fits_intervals_and_measures_their_coverage(copied: Run):
    copied.evaluate(num_bootstrap=0)
    assert list(copied.calibrate().classes) == ["a", "b"]
    stored = read_intervals(copied)
    assert [(i.target, i.level) for i in stored.intervals] == [
        (target, level) for target in ("pt", "mass") for level in (0.68, 0.95)
    ]
    rows = stored.coverage(read_targets(copied.path / "scores.parquet"))
    assert [row[0] for row in rows[1:]] == ["pt", "pt", "mass", "mass"]
    assert all(0.5 < float(row[3].split(" ")[0]) <= 1 for row in rows[1:] if row[3][0] == "0")


def test_a_file_is_predicted_with_intervals_in_the_units_of_the_targets(
    copied: Run, tmp_path: Path
):
    jets = jets_with_targets(50, seed=9)
    write_jets(jets[["p4"]], tmp_path / "some.parquet")
    with pytest.raises(InputError, match=r"no calibration\.json"):
        copied.predict_file(tmp_path / "some.parquet", tmp_path / "a.parquet", calibrated=True)
    copied.calibrate()
    copied.predict_file(tmp_path / "some.parquet", tmp_path / "a.parquet", calibrated=True)
    table = pq.read_table(tmp_path / "a.parquet").to_pandas()
    assert {"score_a", "score_b", "pred_pt", "pred_pt_sigma", "pred_mass_q0.16"} <= set(table)
    assert (table["pred_mass_low95"] <= table["pred_mass"]).all()
    assert (table["pred_mass_low95"] < table["pred_mass_high95"]).all()
    found = copied.predictions(jets[["p4"]])["mass"].mean.exp()
    np.testing.assert_allclose(table["pred_mass"], found, rtol=1e-6)
    assert not any(name.startswith("target_") for name in table)


def test_the_report_draws_each_quantity(copied: Run, undrawn: None):
    copied.evaluate(num_bootstrap=0)
    copied.calibrate()
    page = copied.report().read_text()
    for words in (
        "Predicted quantities",
        "Distribution of predicted minus true mass",
        "Resolution of pt against pT",
        "Reliability of the quantiles of mass",
        "conformal",
        "ROC curve",
    ):
        assert words in page
    assert (copied.path / "figures" / "training_objectives.png").exists()


def test_a_run_without_classes_is_evaluated_predicted_and_reported(
    copied_regression: Run, tmp_path: Path, undrawn: None
):
    run = copied_regression
    assert run.classes == []
    table = run.evaluate()
    assert {"pt.bias", "pt.response", "many.auc"} <= set(table)
    assert "auc" not in table
    with pytest.raises(InputError, match="predictions of targets and no scores of classes"):
        run.roc()
    run.calibrate()
    page = run.report().read_text()
    assert "Predicted quantities" in page
    assert "ROC curve" not in page
    assert "cannot" not in page
    write_jets(jets_with_targets(30)[["p4"]], tmp_path / "some.parquet")
    run.predict_file(tmp_path / "some.parquet", tmp_path / "a.parquet", calibrated=True)
    columns = pq.read_table(tmp_path / "a.parquet").column_names
    assert {"pred_pt", "pred_pt_low68", "pred_many"} <= set(columns)


def test_studies_of_classes_say_what_they_need(regression_run: Run, capsys):
    run = regression_run
    jets = jets_with_targets(10)
    for study in (
        lambda: run.predict(jets),
        run.uncertainty,
        run.robustness,
        lambda: run.explain("taylor"),
        lambda: run.explain("occlusion"),
        lambda: run.network(),
    ):
        with pytest.raises(InputError, match="needs a run with the objective class"):
            study()
    with pytest.raises(InputError, match="learned pt, many"):
        run.evaluate(signal="a")


def test_studies_of_classes_take_their_slice_of_the_outputs(shared_run: Run, tmp_path: Path):
    jets = jets_with_targets(20)
    loader = shared_run.modality.loader(shared_run.modality.dataset(jets, shared_run.feature_set))
    (batch,) = loader
    logits = shared_run.network()(*shared_run.modality.arguments(batch))
    assert logits.shape == (20, 2)
    np.testing.assert_allclose(logits.detach().numpy(), shared_run.logits(jets), rtol=1e-5)
    outputs = shared_run.tagger().model(*shared_run.modality.arguments(batch))
    assert outputs.shape == (20, 2 + 2 + 5)


def test_the_last_layer_of_the_classes_is_their_rows(tmp_path: Path, learning: dict[str, Any]):
    options = learning | {"model": "pfn", "epochs": 1, "objective": ["pt:gaussian", "class"]}
    run = train(**options, out=tmp_path / "run", progress=False)
    jets = jets_with_targets(20)
    (batch,) = run.modality.loader(run.modality.dataset(jets, run.feature_set))
    logits = run.network()(*run.modality.arguments(batch))
    np.testing.assert_allclose(logits.detach().numpy(), run.logits(jets), rtol=1e-5, atol=1e-6)
    assert run.uncertainty(jets=40).facts["method"] == "laplace"
    assert run.tagger().model.head.output.out_features == 4  # the network itself is unchanged


def test_an_interrupted_training_continues_bit_by_bit(
    learning: dict[str, Any], shared_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    end = RunCheckpoint.on_train_batch_end

    def interrupted(self: RunCheckpoint, *args: Any) -> None:
        end(self, *args)
        if self.state.step == 3:
            raise KeyboardInterrupt

    chosen: dict[str, Any] = {"objective": OBJECTIVE, "objective_weights": "learned"}
    chosen |= {"checkpoint_steps": 1, "out": tmp_path / "run", "progress": False}
    with monkeypatch.context() as patch:
        patch.setattr(RunCheckpoint, "on_train_batch_end", interrupted)
        with pytest.raises(BaseException):  # noqa: B017, PT011 (Lightning exits in its own way)
            train(**learning, **chosen)
    run = train(**learning, **chosen)
    for name, weight in shared_run.tagger("last").model.state_dict().items():
        assert torch.equal(weight, run.tagger("last").model.state_dict()[name])
    assert torch.equal(
        shared_run.tagger("last").objective.log_scales, run.tagger("last").objective.log_scales
    )


def test_an_ensemble_averages_its_predictions(learning: dict[str, Any], tmp_path: Path):
    chosen: dict[str, Any] = {"objective": "pt:gaussian", "ensemble": 2, "epochs": 1}
    run = train(**learning | chosen, out=tmp_path / "run", progress=False)
    jets = jets_with_targets(20)
    parts = [member.predictions(jets)["pt"] for member in run.members]
    found = run.predictions(jets)["pt"]
    torch.testing.assert_close(found.mean, (parts[0].mean + parts[1].mean) / 2)
    assert (found.sigma >= torch.minimum(parts[0].sigma, parts[1].sigma)).all()


def test_a_network_continues_with_the_objectives_of_another(
    learning: dict[str, Any], shared_run: Run, tmp_path: Path
):
    chosen: dict[str, Any] = {"objective": OBJECTIVE, "init_from": str(shared_run.path)}
    train(**learning | {"steps": 1, "epochs": None}, **chosen, out=tmp_path / "a", progress=False)
    chosen["objective"] = ["class", "pt:quantile:0.5"]
    with pytest.raises(InputError, match=r"not pt_q0\.5.*--reset-head"):
        train(**learning, **chosen, out=tmp_path / "b", progress=False)


# --- what cannot be learned

NAN = float("nan")


def _changed(**columns: Any) -> ak.Array:
    jets = jets_with_targets(120)
    targets = {name: ak.to_numpy(jets.targets[name]) for name in jets.targets.fields}
    targets |= {name: np.asarray(values, dtype=float) for name, values in columns.items()}
    return ak.with_field(jets, ak.zip(targets), "targets")


@pytest.mark.parametrize(
    ("columns", "objective", "message"),
    [
        ({}, "mas:squared", "no target named 'mas' in the training jets; did you mean 'mass'"),
        ({"mass": [5.0] * 120}, "mass:squared", "'mass' is constant in the training jets, 5"),
        ({"mass": [NAN] * 120}, "mass:squared", "'mass' is missing for all of the training jets"),
        (
            {"pt": [-1.0, 1.0] * 60},
            {"target": "pt", "kind": "gaussian", "transform": "log"},
            "no log",
        ),
        ({}, "pt:binary", "a binary target is 0 or 1"),
    ],
)
def test_targets_that_cannot_be_learned_are_refused_before_the_training(
    tmp_path: Path, learning: dict[str, Any], columns: Any, objective: Any, message: str
):
    options = learning | {"data": _changed(**columns), "objective": [objective]}
    with pytest.raises(InputError, match=message):
        train(**options, out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_an_infinite_target_of_a_file_is_a_bad_jet(tmp_path: Path):
    with pytest.raises(InputError, match=r"infinity in targets\.mass \(jet 3\)"):
        write_jets(_changed(mass=[1.0, 2.0, NAN, np.inf] + [1.0] * 116), tmp_path / "a.parquet")


def test_an_infinite_target_is_not_to_be_filled(tmp_path: Path):
    jets = jets_with_targets(20)[["p4", "label"]]
    columns = {"mass": np.where(np.arange(20) == 4, np.inf, 1.0)}
    write_jets(ak.with_field(jets, columns["mass"], "mass"), tmp_path / "a.parquet")
    schema = {
        "p4": {name: f"p4.{name}" for name in ("E", "px", "py", "pz")},
        "targets": {"m": "mass"},
    }
    with pytest.raises(InputError, match=r"infinity in mass \(jet 4\); on_bad_jet='drop'"):
        pcloud.read_jets(tmp_path / "a.parquet", schema)


def test_jets_without_targets_are_refused(tmp_path: Path, learning: dict[str, Any]):
    options = learning | {"data": jets_with_targets(50)[["p4", "label"]], "objective": "pt:squared"}
    with pytest.raises(InputError, match="have no targets, and the objective is 'pt'"):
        train(**options, out=tmp_path / "run", progress=False)


def test_a_target_in_another_unit_is_warned_of(tmp_path: Path, learning: dict[str, Any]):
    jets = _changed(pt=1000 * ak.to_numpy(jets_with_targets(120).targets.pt))
    options = learning | {"data": jets, "objective": "pt:squared", "epochs": 1}
    with pytest.warns(
        TargetUnitWarning, match=r"target 'pt' .* a response of 1\.\d+e\+03: is it in"
    ):
        train(**options, out=tmp_path / "run", progress=False)


def test_images_have_no_targets(tmp_path: Path):
    images = np.arange(40 * 64.0).reshape(40, 8, 8)
    np.savez(tmp_path / "i.npz", images=images, labels=np.arange(40) % 2)
    options: dict[str, Any] = {"data": str(tmp_path / "i.npz"), "model": "cnn"}
    with pytest.raises(InputError, match="have no targets, and the objective is 'mass'"):
        train(**options, objective="mass:squared", out=tmp_path / "run", progress=False)


def test_jets_to_evaluate_need_the_targets_that_were_learned(shared_run: Run, tmp_path: Path):
    write_jets(jets_with_targets(30)[["p4", "label"]], tmp_path / "some.parquet")
    with pytest.raises(InputError, match="have no target pt, mass, which the run learned"):
        shared_run.evaluate(str(tmp_path / "some.parquet"), out=tmp_path)


def test_a_response_far_from_1_is_warned_of(copied: Run, tmp_path: Path):
    jets = jets_with_targets(80, seed=3)
    targets = {name: jets.targets[name] for name in jets.targets.fields}
    targets["pt"] = targets["pt"] / 1000
    write_jets(ak.with_field(jets, ak.zip(targets), "targets"), tmp_path / "tev.parquet")
    with pytest.warns(TargetUnitWarning, match=r"the response of pt is .*: is it in the unit"):
        table = copied.evaluate(str(tmp_path / "tev.parquet"), num_bootstrap=0)
    assert any(note.startswith("The response of pt") for note in table.notes)


def test_a_network_with_other_outputs_is_refused(tmp_path: Path, learning: dict[str, Any]):
    code = (
        "from tests.training.tiny import Tiny\n"
        "class Fixed(Tiny):\n"
        "    def __init__(self, in_features: int, num_outputs: int):\n"
        "        super().__init__(in_features, 2)\n"
    )
    (tmp_path / "fixed.py").write_text(code)
    options = learning | {"model": f"{tmp_path / 'fixed.py'}:Fixed", "objective": "pt:gaussian"}
    train(**options, out=tmp_path / "a", progress=False)  # by chance its number
    options["objective"] = ["class", "pt:gaussian"]
    with pytest.raises(
        InputError, match="2 outputs, and the objectives need 4, a, b, pt, pt_sigma"
    ):
        train(**options, out=tmp_path / "b", progress=False)


def test_the_slice_of_the_classes_is_decorrelated(tmp_path: Path, learning: dict[str, Any]):
    options = learning | {"epochs": 1, "batch_size": 150, "decorrelate": "mass"}
    train(**options, objective=["pt:huber", "class"], out=tmp_path / "run", progress=False)


def test_weights_of_jets_count_in_all_that_is_learned(tmp_path: Path, learning: dict[str, Any]):
    jets = jets_with_targets(300)
    weights = np.random.default_rng(0).exponential(size=300)
    jets = ak.with_field(jets, weights, "weight")
    options = learning | {"data": jets, "epochs": 1, "objective": OBJECTIVE}
    run = train(**options, out=tmp_path / "run", progress=False)
    (val,) = load_splits(run.config, "val")
    found = run.predictions(val, checkpoint="last")["pt"]
    (_, pt, _) = run.objective
    truth = torch.from_numpy(ak.to_numpy(val.targets.pt)).float()
    standard = found.scaled(1 / pt.target.scale, -pt.target.shift / pt.target.scale)
    losses = standard.loss(pt.target.standardised(truth)).numpy()
    logged = run.history[-1]["val_loss_pt"]
    assert logged == pytest.approx(np.average(losses, weights=ak.to_numpy(val.weight)), rel=1e-4)
    samples = run.evaluate(num_bootstrap=0)
    assert samples["pt.resolution"].error > 0


def test_negative_weights_have_no_intervals(
    tmp_path: Path, learning: dict[str, Any], undrawn: None
):
    jets = jets_with_targets(300)
    weights = np.where(np.arange(300) % 10, 1.0, -1.0)
    jets = ak.with_field(jets, weights, "weight")
    options = learning | {"data": jets, "objective": "pt:gaussian"}
    run = train(**options, out=tmp_path / "run", progress=False)
    assert run.evaluate(num_bootstrap=0)["pt.resolution"].error > 0
    assert run.calibrate().intervals == []
    assert "No conformal intervals: some weights are negative" in run.report().read_text()


# --- command line


def test_the_command_line_trains_and_evaluates(target_file: Path, tmp_path: Path, capsys):
    out = str(tmp_path / "run")
    command = ["train", "--data", str(target_file), "--model", "pfn", "--out", out, "--epochs", "1"]
    command += ["--objective", "class", "pt:gaussian", "mass:quantile:0.16,0.5,0.84"]
    command += ["--monitor", "val_resolution_pt", "--quiet", "--batch-size", "100"]
    assert main(command) == 0
    assert main(["evaluate", out, "--bootstrap", "0"]) == 0
    said = capsys.readouterr().out
    assert "pt: width of the pulls" in said
    assert "particles per jet" in said
    assert main(["calibrate", out]) == 0
    assert "middle pT" in capsys.readouterr().out
    assert main(["evaluate", out, "--robustness", "--signal", "c"]) == 2
    assert main(["train", *command[1:-2], "--objective", "pt:quantile:0.9,0.1"]) == 2
    assert "not in increasing order" in capsys.readouterr().err
    assert main(["train", *command[1:-2], "--objective", "pt:gausian"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "no kind of objective named 'gausian' in 'pt'; did you mean 'gaussian'?" in said


def test_a_schema_names_targets_with_their_transformation(tmp_path: Path):
    jets = jets_with_targets(200)
    columns = {name: jets.targets[name] for name in jets.targets.fields}
    flat = ak.zip({**{n: jets[n] for n in jets.fields if n != "targets"}, **columns}, depth_limit=1)
    write_jets(flat, tmp_path / "jets.parquet")
    schema = {
        "p4": {name: f"p4.{name}" for name in ("E", "px", "py", "pz")},
        "label": "label",
        "targets": {"m": {"value": "mass / 2", "transform": "log"}, "pt": "pt"},
    }
    read = pcloud.read_jets(tmp_path / "jets.parquet", schema)
    assert read.attrs["transforms"] == {"m": "log"}
    half = ak.to_numpy(read.targets.m)
    np.testing.assert_allclose(half, ak.to_numpy(jets.targets.mass) / 2)
    assert np.isnan(half).any()
    run = train(
        data=str(tmp_path / "jets.parquet"),
        schema=schema,
        model="pfn",
        epochs=1,
        objective="m:gaussian",
        out=tmp_path / "run",
        progress=False,
    )
    assert run.objective.targets[0].target.transform == "log"
    assert run.evaluate()["m.response"].value > 0
    schema["targets"]["m"]["transform"] = "lg"
    with pytest.raises(
        InputError, match="no transform named 'lg' in target 'm'; did you mean 'log'"
    ):
        pcloud.read_jets(tmp_path / "jets.parquet", schema)
