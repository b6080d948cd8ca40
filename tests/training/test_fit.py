"""Training: what it leaves behind, when it stops, what it refuses."""

from __future__ import annotations

import csv
import json
import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch.nn import functional as F

from pcloud import JetDataset, Run, train
from pcloud.errors import InputError, UnknownNameError
from pcloud.objectives.classes import Classes, mean_auc
from pcloud.training import TrainConfig, fit
from pcloud.training.config import TrainConfig as Config
from pcloud.training.data import load_splits
from pcloud.training.environment import describe_environment
from pcloud.training.folder import open_folder
from pcloud.training.metrics import RunningMetrics
from pcloud.training.module import TaggerModule
from pcloud.training.state import COLUMNS


def weights(run: Run, checkpoint: str = "last") -> torch.Tensor:
    return torch.cat([p.flatten() for p in run.model(checkpoint).parameters()]).detach()


def test_a_run_is_a_folder_with_everything_in_it(options: dict[str, Any]) -> None:
    run = train(**options, progress=False)
    assert sorted(p.relative_to(run.path).as_posix() for p in run.path.rglob("*")) == [
        "checkpoints",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "config.yaml",
        "environment.json",
        "metrics.csv",
    ]
    with (run.path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [row["epoch"] for row in rows] == ["1", "2"]
    written = yaml.safe_load((run.path / "config.yaml").read_text())
    assert set(written) == set(TrainConfig.from_dict(options).to_dict())
    environment = json.loads((run.path / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__
    assert environment["seed"] == 0
    assert environment["started"] <= environment["finished"]


@pytest.mark.parametrize("build", ["2.13.0", "2.13.0+cpu", "2.13.0+cu130"])
def test_the_build_of_torch_is_recorded_whatever_the_metadata_say(
    monkeypatch: pytest.MonkeyPatch, build: str
) -> None:
    monkeypatch.setattr("torch.__version__", build)
    monkeypatch.setattr("pcloud.training.environment.version", lambda package: "2.13.0")
    assert describe_environment(seed=0)["packages"]["torch"] == build


def test_the_network_learns(options: dict[str, Any]) -> None:
    # The bound is that of the 50 validation jets of this split.
    few = {"epochs": 8, "batch_size": 10, "split": "permutation"}
    run = train(**options | few, progress=False)
    assert run.history[-1]["val_auc"] > 0.9
    assert run.history[-1]["train_loss"] < 0.8 * run.history[0]["train_loss"]


def test_the_logged_validation_metrics_are_those_of_the_saved_model(
    options: dict[str, Any],
) -> None:
    run = train(**options, progress=False)
    (jets,) = load_splits(run.config, "val")
    scores = run.predict(jets, checkpoint="last")
    labels = np.asarray(jets.label)
    row = run.history[-1]
    assert row["val_acc"] == pytest.approx(np.mean(scores.argmax(1) == labels))
    loss = -np.log(scores[np.arange(len(labels)), labels]).mean()
    assert row["val_loss"] == pytest.approx(loss, rel=1e-5)


def test_the_logged_training_loss_is_the_mean_of_the_steps(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = []
    step = TaggerModule.training_step
    monkeypatch.setattr(
        TaggerModule, "training_step", lambda *a: losses.append(step(*a)) or losses[-1]
    )
    run = train(**options, progress=False)
    means = torch.stack(losses).detach().reshape(2, -1).double().mean(dim=1)
    assert [row["train_loss"] for row in run.history] == pytest.approx(means.tolist())


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    options: dict[str, Any], tmp_path: Path
) -> None:
    a, b, c = (
        train(**options | {"out": tmp_path / name, "seed": seed}, progress=False)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert weights(a).equal(weights(b))
    assert not weights(a).equal(weights(c))


def test_the_callers_random_numbers_and_settings_stay_as_they_are(
    options: dict[str, Any],
) -> None:
    before = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002
    filters = list(warnings.filters)
    train(**options, progress=False)
    assert torch.get_rng_state().equal(before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]  # noqa: NPY002
    assert not torch.are_deterministic_algorithms_enabled()
    assert warnings.filters == filters


def test_a_finished_run_is_left_alone(
    options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(**options, progress=False)
    files = {p: p.stat().st_mtime_ns for p in run.path.rglob("*")}
    again = train(**options)
    assert {p: p.stat().st_mtime_ns for p in run.path.rglob("*")} == files
    assert again.path == run.path
    assert "is finished" in capsys.readouterr().err


def test_another_configuration_in_the_same_folder_is_refused(options: dict[str, Any]) -> None:
    train(**options, progress=False)
    with pytest.raises(InputError, match=r"epochs 2 is now 3; seed 0 is now 5; .*--overwrite"):
        train(**options | {"seed": 5, "epochs": 3}, progress=False)


def test_overwriting_starts_anew_and_spares_files_that_are_not_the_runs(
    options: dict[str, Any],
) -> None:
    run = train(**options, progress=False)
    (run.path / "notes.txt").write_text("mine")
    of_the_old_run = ("scores.parquet", "attribution.json", "robustness.json", "shift/a_b.json")
    (run.path / "shift").mkdir()
    for name in of_the_old_run:
        (run.path / name).write_text("of the old run")
    again = train(**options | {"seed": 5}, overwrite=True, progress=False)
    assert again.config.seed == 5
    assert len(again.history) == 2
    assert (run.path / "notes.txt").read_text() == "mine"
    assert not [name for name in of_the_old_run if (run.path / name).exists()]


def test_overwriting_with_what_cannot_be_trained_spares_the_old_run(
    options: dict[str, Any],
) -> None:
    run = train(**options, progress=False)
    with pytest.raises(InputError, match="need charge"):
        train(**options | {"features": "full"}, overwrite=True, progress=False)
    assert Run(run.path).finished
    assert weights(run).equal(weights(Run(run.path)))


def test_a_run_killed_right_after_its_end_is_noted_as_finished(options: dict[str, Any]) -> None:
    run = train(**options, progress=False)
    path = run.path / "environment.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"finished": None}))
    train(**options, progress=False)
    environment = json.loads(path.read_text())
    assert environment["finished"]
    assert environment["sessions"] == 1


def test_the_best_checkpoint_is_of_the_best_epoch(options: dict[str, Any]) -> None:
    run = train(**options | {"epochs": 6, "lr": 0.3, "schedule": "constant"}, progress=False)
    losses = [row["val_loss"] for row in run.history]
    (jets,) = load_splits(run.config, "val")
    labels = np.asarray(jets.label)
    scores = run.predict(jets, checkpoint="best")
    loss = -np.log(scores[np.arange(len(labels)), labels]).mean()
    assert loss == pytest.approx(min(losses), rel=1e-4)


@pytest.mark.parametrize("monitor", ["val_loss", "val_auc"])
def test_early_stopping_waits_for_the_monitored_metric(
    options: dict[str, Any], monitor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    better = {"val_loss": [1.0, 0.5, 0.6, 0.7, 0.1], "val_auc": [0.6, 0.8, 0.7, 0.7, 0.9]}
    values = iter(range(5))

    def metrics(self: TaggerModule) -> dict[str, float]:
        self.val_outputs.clear()
        i = next(values)
        return {"val_acc": 0.5} | {name: better[name][i] for name in better}

    monkeypatch.setattr(TaggerModule, "validation_metrics", metrics)
    flags = {"epochs": 5, "patience": 2, "monitor": monitor}
    run = train(**options | flags, progress=False)
    assert len(run.history) == 4  # best in the second, stopped after two more
    assert run.finished
    train(**options | flags, progress=False)  # and does not go on
    assert len(run.history) == 4


def test_a_run_counted_in_steps_stops_in_the_middle_of_an_epoch(options: dict[str, Any]) -> None:
    del options["epochs"]
    run = train(**options, steps=8, progress=False)  # 6 steps in an epoch
    assert [row["epoch"] for row in run.history] == [1, 2]
    assert run.finished


def test_bfloat16_trains_and_stores_float32(options: dict[str, Any]) -> None:
    run = train(**options, precision="bfloat16", progress=False)
    assert {p.dtype for p in run.model().parameters()} == {torch.float32}
    assert np.isfinite(run.history[-1]["val_loss"])


def test_the_gradient_is_clipped(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    norms = []

    def record(self: TaggerModule, *args: Any) -> None:
        gradients = [p.grad.norm() for p in self.parameters() if p.grad is not None]
        norms.append(sum(g.item() ** 2 for g in gradients) ** 0.5)

    monkeypatch.setattr(TaggerModule, "on_before_zero_grad", record)
    train(**options, gradient_clip=0.01, progress=False)
    clipped = [norm for norm in norms if norm > 0]
    assert clipped
    assert max(clipped) <= 0.01 * 1.001


def test_class_weights_enter_the_loss(options: dict[str, Any]) -> None:
    run = train(**options, class_weights=[1.0, 3.0], progress=False)
    (jets,) = load_splits(run.config, "val")
    logits = torch.from_numpy(run.predict(jets, checkpoint="last")).log()
    labels = torch.from_numpy(np.asarray(jets.label))
    loss = F.cross_entropy(logits, labels, torch.tensor([1.0, 3.0]).double())
    assert run.history[-1]["val_loss"] == pytest.approx(loss.item(), rel=1e-5)


def test_balanced_weights_give_the_classes_the_same_total(jet_file: Path) -> None:
    config = Config.from_dict({"data": jet_file, "model": "pfn", "out": "unused"})
    jets = fit.load_training_data(config)
    objective = Classes(jets.classes, "balanced")
    objective.fit(jets.train)
    weight = objective.jet_loss.cross_entropy.weight
    assert isinstance(jets.train, JetDataset)
    total = weight * torch.bincount(jets.train.y)
    assert total.tolist() == pytest.approx([len(jets.train) / 2] * 2)
    with pytest.raises(InputError, match="class_weights has 3 numbers for 2 classes, a, b"):
        Classes(jets.classes, [1.0, 2.0, 3.0]).fit(jets.train)


def test_a_diverged_training_stops_with_advice(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"diverged in epoch 1.*lower the learning rate"):
        train(**options | {"lr": 1e30, "schedule": "constant"}, progress=False)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"model": "particlnet"}, UnknownNameError, "did you mean 'particlenet'"),
        ({"model": "absent.py:Tagger"}, InputError, "no file absent.py"),
        ({"model": "pfn", "model_options": {"phii": 3}}, UnknownNameError, "phii"),
        ({"accelerator": "quantum"}, InputError, "accelerator 'quantum'"),
        ({"features": "kinn"}, UnknownNameError, "did you mean 'kin'"),
        ({"colour": "red"}, UnknownNameError, "training option named 'colour'"),
    ],
)
def test_what_cannot_be_trained_is_refused_and_leaves_no_folder(
    options: dict[str, Any], change: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        train(**options | change, progress=False)
    assert not Path(options["out"]).exists()


def test_a_folder_that_cannot_be_made_is_refused(options: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InputError, match="cannot make the folder"):
            train(**options | {"out": out}, progress=False)


def test_two_processes_do_not_train_in_one_folder(options: dict[str, Any]) -> None:
    pytest.importorskip("fcntl")
    config = TrainConfig.from_dict(options)
    with open_folder(config), pytest.raises(InputError, match="another process is training"):
        train(**options, progress=False)


def test_the_areas_of_many_classes_are_averaged() -> None:
    from sklearn.metrics import roc_auc_score

    torch.manual_seed(0)
    logits = torch.randn(300, 4) * 3
    labels = torch.randint(0, 4, (300,))
    scores = F.softmax(logits.double(), dim=-1)
    expected = roc_auc_score(labels, scores, multi_class="ovr", average="macro")
    assert mean_auc(logits, labels) == pytest.approx(expected)
    two = roc_auc_score(labels[labels < 2], (logits[:, 1] - logits[:, 0])[labels < 2])
    assert mean_auc(logits[labels < 2, :2], labels[labels < 2]) == pytest.approx(two)
    assert np.isnan(mean_auc(logits, torch.zeros(300, dtype=torch.long)))


def test_sums_of_metrics_go_on_where_they_stopped() -> None:
    whole, part = RunningMetrics(), RunningMetrics()
    for i in range(6):
        generator = torch.Generator().manual_seed(i)
        logits = torch.randn(5 + i, 3, generator=generator)
        labels = torch.randint(0, 3, (5 + i,), generator=generator)
        loss = F.cross_entropy(logits, labels)
        whole.update(loss, logits, labels)
        part.update(loss, logits, labels)
        state, part = part.state_dict(), RunningMetrics()
        part.load_state_dict(state)
    assert part.compute() == whole.compute()
