"""Runs that learn labels of particles beside the class."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from pcloud.cli import main
from pcloud.errors import InputError
from pcloud.evaluation.particles import PredictedParticles, PredictedVertices, evaluate_particles
from pcloud.io import write_jets
from pcloud.objectives.particle_columns import read_labels
from pcloud.run import Run
from pcloud.training.callbacks import RunCheckpoint
from pcloud.training.data import load_splits
from pcloud.training.fit import train
from pcloud.training.particle_labels import flat_labels
from tests.objectives.conftest import jets_with_labels

pytestmark = [
    pytest.mark.filterwarnings("ignore::pcloud.training.constant.NothingLearnedWarning"),
]


@pytest.fixture
def copied(label_run: Run, tmp_path: Path) -> Run:
    shutil.copytree(label_run.path, tmp_path / "run")
    return Run(tmp_path / "run")


def test_losses_and_metrics_of_labels_are_logged(label_run: Run):
    columns = set(label_run.history.columns)
    assert {"val_acc_kind", "val_auc_kind", "val_efficiency_vertex", "val_purity_vertex"} <= columns
    assert {"train_loss_kind", "val_loss_vertex", "val_acc", "val_auc"} <= columns
    row = label_run.history[-1]
    total = sum(row[f"val_loss_{name}"] for name in ("class", "kind", "vertex"))
    assert row["val_loss"] == pytest.approx(total, rel=1e-6)


def test_logged_metrics_are_those_of_the_validation_jets(label_run: Run):
    (jets,) = load_splits(label_run.config, "val")
    found = label_run.predictions(jets, checkpoint="last")
    labels = flat_labels(jets, "kind")
    p = found["kind"].mean.numpy()
    known = labels >= 0
    accuracy = (p.argmax(axis=1) == labels)[known].mean()
    assert label_run.history[-1]["val_acc_kind"] == pytest.approx(accuracy, abs=1e-6)
    counts = ak.to_numpy(ak.num(jets.p4))
    vertices = flat_labels(jets, "vertex")
    groups = found["vertex"].groups()
    sample = PredictedVertices("vertex", groups, counts, vertices, np.ones(len(groups), bool))
    table = evaluate_particles(sample, num_bootstrap=0)
    for name in ("efficiency", "purity"):
        logged = label_run.history[-1][f"val_{name}_vertex"]
        assert 0 < logged == pytest.approx(table[name].value, abs=1e-6)


def test_predictions_are_in_the_order_of_the_input(label_run: Run):
    jets = jets_with_labels(30, seed=3)
    rng = np.random.default_rng(0)
    order = ak.argsort(ak.unflatten(rng.random(ak.count(jets.p4.E)), ak.num(jets.p4)), axis=1)
    before = label_run.predictions(jets)
    after = label_run.predictions(ak.zip({"p4": jets.p4[order]}, depth_limit=1))
    p = ak.unflatten(before["kind"].mean.numpy(), ak.num(jets.p4))
    expected = ak.to_numpy(ak.flatten(p[order], axis=1))
    np.testing.assert_array_equal(after["kind"].mean.numpy(), expected)
    groups = ak.unflatten(before["vertex"].groups(), ak.num(jets.p4))[order]
    again = ak.unflatten(after["vertex"].groups(), ak.num(jets.p4))
    for one, other in zip(groups.to_list(), again.to_list(), strict=True):
        same = [[a == b >= 0 for a in one] for b in one]
        assert same == [[a == b >= 0 for a in other] for b in other]


def test_the_table_the_file_and_the_report_agree(copied: Run, undrawn: None):
    table = copied.evaluate(num_bootstrap=20)
    samples, weights = read_labels(copied.path / "scores.parquet")
    assert weights is None
    assert isinstance(samples[0], PredictedParticles)
    for sample in samples:
        for name, entry in evaluate_particles(sample, num_bootstrap=20).items():
            found = table[f"{sample.name}.{name}"]
            assert found.value == pytest.approx(entry.value, rel=1e-6)
            assert (found.bootstrap or 0) == pytest.approx(entry.bootstrap or 0, rel=1e-6)
    assert "kind.class_auc@soft" in table
    page = copied.report().read_text()
    for words in (
        "Labels of particles",
        "AUC of soft",
        "efficiency of vertices",
        "matched vertices",
    ):
        assert words in page
    assert "Predicted quantities" not in page


def test_a_file_is_predicted_with_lists_in_its_order(copied: Run, tmp_path: Path, capsys):
    jets = jets_with_labels(40, seed=5)
    jets = jets[["p4"]]
    write_jets(jets, tmp_path / "some.parquet")
    copied.predict_file(tmp_path / "some.parquet", tmp_path / "a.parquet")
    table = pq.read_table(tmp_path / "a.parquet")
    found = copied.predictions(jets)
    column = ak.from_arrow(table["pred_kind_soft"])
    assert ak.num(column).to_list() == ak.num(jets.p4).to_list()
    np.testing.assert_allclose(ak.to_numpy(ak.flatten(column)), found["kind"].mean[:, 0], rtol=1e-5)
    vertices = ak.to_numpy(ak.flatten(ak.from_arrow(table["pred_vertex"])))
    np.testing.assert_array_equal(vertices, found["vertex"].groups())
    assert not any(name.startswith("target_") for name in table.column_names)
    main(["evaluate", str(copied.path), "--data", str(tmp_path / "some.parquet")])
    assert "no labels" in capsys.readouterr().err


def test_an_interrupted_training_continues_bit_by_bit(
    learning_labels: dict[str, Any], label_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    end = RunCheckpoint.on_train_batch_end

    def interrupted(self: RunCheckpoint, *args: Any) -> None:
        end(self, *args)
        if self.state.step == 3:
            raise KeyboardInterrupt

    chosen: dict[str, Any] = {"checkpoint_steps": 1, "out": tmp_path / "run", "progress": False}
    with monkeypatch.context() as patch:
        patch.setattr(RunCheckpoint, "on_train_batch_end", interrupted)
        with pytest.raises(BaseException):  # noqa: B017, PT011 (Lightning exits in its own way)
            train(**learning_labels, **chosen)
    run = train(**learning_labels, **chosen)
    for part in ("model", "objective"):
        expected = getattr(label_run.tagger("last"), part).state_dict()
        for name, weight in getattr(run.tagger("last"), part).state_dict().items():
            assert torch.equal(weight, expected[name]), name


def test_labels_alone_are_learned_and_evaluated(
    learning_labels: dict[str, Any], tmp_path: Path, undrawn: None
):
    options = learning_labels | {"objective": "vertex:pairs", "steps": 4, "epochs": None}
    options |= {"ensemble": 2, "monitor": "val_efficiency_vertex"}
    run = train(**options, out=tmp_path / "run", progress=False)
    assert run.classes == []
    table = run.evaluate(num_bootstrap=0)
    assert set(table) == {"vertex.efficiency", "vertex.purity"}
    assert "Labels of particles" in run.report().read_text()


def change(jets: ak.Array, **labels: Any) -> ak.Array:
    return ak.with_field(jets, ak.zip(labels, depth_limit=1), "particle_labels")


def test_unusable_labels_are_refused_before_a_training(
    learning_labels: dict[str, Any], tmp_path: Path
):
    jets = jets_with_labels(60)
    counts = ak.num(jets.p4)
    few = ak.unflatten(np.zeros(int(ak.sum(counts)) - 1, dtype=int), [*counts[:-1], counts[-1] - 1])
    words = ak.unflatten(np.array(["a"] * int(ak.sum(counts))), counts)
    half = ak.unflatten(np.full(int(ak.sum(counts)), 0.5), counts)
    cases: list[tuple[Any, dict[str, Any], str]] = [
        (jets[["p4", "label"]], {}, "the training jets have no labels of particles"),
        (change(jets, kind=jets.particle_labels.kind), {}, "no particle label named 'vertex'"),
        (change(jets, kind=few, vertex=few), {}, "does not match the number of particles in 1 of"),
        (change(jets, kind=words, vertex=words), {}, "is not one number per particle"),
        (change(jets, kind=half, vertex=half), {}, "must be whole numbers"),
        (jets, {"model": "pcnn"}, r"kind:classes needs .* 'pcnn' has none: take one of dgcnn"),
        (jets, {"monitor": "val_auc_vertex"}, "no metric to monitor named 'val_auc_vertex'"),
    ]
    for sample, options, message in cases:
        chosen = learning_labels | {"data": sample} | options
        if options.get("model"):
            chosen["model_options"] = {}
        with pytest.raises(InputError, match=message):
            train(**chosen, out=tmp_path / "run", progress=False)
        assert not (tmp_path / "run").exists()


def test_a_network_of_the_user_needs_representations(
    learning_labels: dict[str, Any], tmp_path: Path
):
    code = (
        "import pcloud\n"
        "class Wrong(pcloud.models.PFN):\n"
        "    def __init__(self, in_features, num_outputs):\n"
        "        super().__init__(in_features, num_outputs, phi_widths=[8])\n"
        "        self.particle_width = 5\n"
    )
    (tmp_path / "own.py").write_text(code)
    options = learning_labels | {"model": f"{tmp_path / 'own.py'}:Wrong", "model_options": {}}
    with pytest.raises(InputError, match=r"needs 5 features \(particle_width\) of each of"):
        train(**options, out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_other_classes_of_validation_jets_are_refused(
    learning_labels: dict[str, Any], tmp_path: Path
):
    jets = jets_with_labels(100)
    other = jets_with_labels(50)
    for sample, names in ((jets, ["soft", "hard"]), (other, ["hard", "soft"])):
        sample.attrs["particle_classes"] = {"kind": names}
    options = learning_labels | {"data": jets, "val": other}
    del options["val_fraction"], options["test_fraction"]
    with pytest.raises(
        InputError, match="'kind' of the validation jets has the classes hard, soft"
    ):
        train(**options, out=tmp_path / "run", progress=False)
