"""Tuning of hyperparameters: the space, trials that go on, the best with other seeds."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest

from pcloud.cli import main
from pcloud.errors import InputError, UnknownNameError
from pcloud.studies.search_space import SearchSpace
from pcloud.studies.tuning import Tuning
from pcloud.training.config import TrainConfig

pytest.importorskip("optuna")
pytest.importorskip("cmaes")

SPACE = {
    "lr": {"low": "1e-5", "high": 1, "log": True},
    "batch_size": {"choices": [32, 128]},
    "model_options.widths": {"choices": [[4], [16, 16]]},
}


class Killed(BaseException):
    """End of a process."""


OPTIONS = {"data": "moons", "model": "mlp", "epochs": 3, "max_jets": 200}


def tune(out, space=SPACE, **options):
    from pcloud.studies.tune import tune

    settings = {"repeats": 0} | {n: options.pop(n) for n in list(options) if n not in OPTIONS}
    return tune(SearchSpace.from_dict(space), OPTIONS | options | {"out": str(out)}, **settings)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """Folder of a tuning by the command line."""
    folder = tmp_path_factory.mktemp("tune")
    (folder / "space.yaml").write_text(
        "lr: {low: 1e-5, high: 1.0, log: true}\nmodel_options.widths: {choices: [[4], [16, 16]]}\n"
    )
    command = ["tune", "--space", str(folder / "space.yaml"), "--out", str(folder / "out"), "-q"]
    training = ["--data", "moons", "--model", "mlp", "--epochs", "3", "--max-jets", "200"]
    assert main([*command, *training, "--trials", "5", "--repeats", "2"]) == 0
    return folder / "out"


def test_the_best_trial_is_the_configuration_and_is_repeated(tuned):
    found = Tuning.read(tuned)
    assert [t.number for t in found.trials] == list(range(5))
    assert {t.state for t in found.trials} <= {"finished", "pruned"}
    finished = [t for t in found.trials if t.state == "finished"]
    assert found.best.metric == min(t.metric for t in finished)
    config = TrainConfig.from_file(tuned / "config.yaml")
    assert config.lr == found.best.values["lr"]
    assert config.model_options["widths"] == found.best.values["model_options.widths"]
    assert config.out == str(tuned / "best")
    base, best = (np.array(found.repeated[name]) for name in ("base", "best"))
    assert found.seeds == [1, 2]
    assert found.gain.value == pytest.approx(float((base - best).mean()))
    assert found.spread == pytest.approx(float(best.std(ddof=1)))
    assert set(found.importance) == {"lr", "model_options.widths"}
    page = (tuned / "report.html").read_text(encoding="utf-8")
    for text in ("standard deviation between seeds", "importance", "Values of all trials"):
        assert text in page


def test_a_trial_that_was_interrupted_goes_on_from_its_epoch(tmp_path, monkeypatch):
    import pcloud.studies.tune as module

    epochs = []

    def killed(config, *, on_epoch, **options):
        def then_killed(row):
            on_epoch(row)
            epochs.append(row["epoch"])
            if len(epochs) == 5:  # in the second epoch of the second trial
                raise Killed

        return train(config, on_epoch=then_killed, **options)

    train = module.train
    monkeypatch.setattr(module, "train", killed)
    with pytest.raises(Killed):
        tune(tmp_path / "a", trials=2)
    again = tune(tmp_path / "a", trials=2)
    assert epochs == [1, 2, 3, 1, 2, 3]  # nothing was trained twice
    monkeypatch.setattr(module, "train", train)
    whole = tune(tmp_path / "b", trials=2)
    assert [t.values for t in again.trials] == [t.values for t in whole.trials]
    np.testing.assert_allclose([t.metric for t in again.trials], [t.metric for t in whole.trials])


def test_a_trial_of_another_process_is_left_to_it(tmp_path):
    import pcloud.studies.tune as module

    found = tune(tmp_path, trials=1)
    storage = module._storage(tmp_path / "tuning.db")
    study = module.optuna.load_study(study_name="pcloud", storage=storage)
    trial = study.ask()
    said = []
    with module._lock(tmp_path / "trials" / f"{trial.number:04}.lock"):
        other = tune(tmp_path, trials=2, tell=said.append)
    assert [t.state for t in other.trials] == ["finished", "running"]
    assert said == ["1 trial running in other processes, which go on"]
    assert other.best == found.best


def test_a_grid_has_each_point_once(tmp_path):
    space = {"lr": {"low": 1e-4, "high": 1e-2, "log": True, "points": 2}}
    space |= {"batch_size": {"choices": [32, 128]}}
    found = tune(tmp_path, space, sampler="grid", trials=10, epochs=1)
    points = {(t.values["lr"], t.values["batch_size"]) for t in found.trials}
    assert len(found.trials) == 4
    assert points == {(lr, size) for lr in (1e-4, 1e-2) for size in (32, 128)}


@pytest.mark.parametrize("sampler", ["random", "cmaes"])
def test_samplers_draw_values_inside_the_space(tmp_path, sampler, monkeypatch):
    space = {"lr": SPACE["lr"], "model_options.dropout": {"low": 0.0, "high": 0.5}}
    found = tune(tmp_path, space, sampler=sampler, trials=2, epochs=1)
    rates = [t.values["lr"] for t in found.trials]
    assert len(set(rates)) == 2
    assert all(1e-5 <= rate <= 1 for rate in rates)
    options = {"sampler": sampler, "trials": 2, "epochs": 1}
    monkeypatch.setenv("PCLOUD_STATE", str(tmp_path / "another user"))
    refused = pytest.raises(InputError, match="a pickle") if sampler == "cmaes" else nullcontext()
    with refused:
        assert tune(tmp_path, space, **options).trials == found.trials
    if sampler == "cmaes":  # an unknown pickle runs no code
        tune(tmp_path, space, trust_code=True, **options)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"lr": 1e-3}, "lr must be {low: ..., high: ...} or {choices: \\[...\\]}, got 0.001"),
        ({"lr": {"low": 1, "high": 1}}, "lr: low must be below high, got 1 and 1"),
        ({"lr": {"low": 0, "high": 1, "log": True}}, "lr: log needs a positive low"),
        ({"lr": {"low": 0}}, "lr.high: is missing"),
        ({"seed": {"choices": [1, 2]}}, "seed cannot be tuned: it changes what is compared"),
        ({}, "needs at least one option"),
    ],
)
def test_a_space_that_cannot_be_used_is_refused_in_one_line(space, message):
    with pytest.raises(InputError, match=message):
        SearchSpace.from_dict(space)


def test_names_of_a_space_are_checked():
    with pytest.raises(UnknownNameError, match="did you mean 'lr'"):
        SearchSpace.from_dict({"lrr": SPACE["lr"]})
    with pytest.raises(UnknownNameError, match=r"setting of lr.*'high'"):
        SearchSpace.from_dict({"lr": {"low": 1, "hihg": 2}})


def test_values_out_of_bounds_and_another_tuning_are_refused_before_any_trial(tuned, tmp_path):
    with pytest.raises(InputError, match="lr must be positive, got 0"):
        tune(tmp_path / "a", {"lr": {"low": 0.0, "high": 1.0}})
    with pytest.raises(InputError, match="cmaes needs a range"):
        tune(tmp_path / "a", {"batch_size": SPACE["batch_size"]}, sampler="cmaes")
    with pytest.raises(InputError, match="did you mean 'dropout'"):
        tune(tmp_path / "a", {"model_options.dropuot": {"low": 0.0, "high": 0.5}})
    with pytest.raises(InputError, match="tuning needs out"):
        tune("")
    assert not (tmp_path / "a").exists()
    with pytest.raises(InputError, match="another configuration and space: take another folder"):
        tune(tuned, epochs=2)


def test_code_that_a_space_names_does_not_run(tmp_path):
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Net: pass\n")
    space = {"model": {"choices": [f"{tmp_path}/evil.py:Net"]}}
    with pytest.raises(InputError, match=r"trust.code"):
        tune(tmp_path / "a", space, given={"model": "mlp"})
    assert not (tmp_path / "ran").exists()
