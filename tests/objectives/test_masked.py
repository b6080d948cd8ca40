"""Pretraining: hidden particles are predicted, and the network begins another training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributions

import pcloud
from pcloud import Run, train
from pcloud.batch import JetDataset
from pcloud.cli import main
from pcloud.errors import InputError
from pcloud.objectives.build import make_objective, objective_from_dict
from pcloud.objectives.masked import MaskedParticles, _log_likelihood
from pcloud.objectives.specification import Specification, parse_objectives
from pcloud.training import callbacks
from pcloud.training.checkpoint import checkpoint_path, read_checkpoint
from tests.training.conftest import TINY, make_jets

FLAGGED = ["kin", "is_photon", "is_muon"]
pytestmark = pytest.mark.filterwarnings("ignore::pcloud.training.constant.NothingLearnedWarning")


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def flagged_jets(number: int, seed: int = 0) -> Any:
    """Jets without labels; the particles are photons, muons or neither."""
    species = np.random.default_rng(seed).integers(0, 3, 12 * number)
    flags = {"is_photon": species == 0, "is_muon": species == 1}
    return pcloud.io.FlatJets.from_awkward(
        make_jets(number, seed, **{n: f.astype(np.int8) for n, f in flags.items()})
    ).to_awkward()


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> str:
    """File of 400 jets without labels."""
    path = tmp_path_factory.mktemp("unlabelled") / "jets.parquet"
    jets = flagged_jets(400)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pcloud.io.parquet.ROW_GROUP", 800)
        pcloud.write_jets(jets[[n for n in jets.fields if n != "label"]], path)
    return str(path)


def options(unlabelled: str, out: Path, **others: Any) -> dict[str, Any]:
    return {
        "data": unlabelled,
        "model": TINY,
        "objective": "masked",
        "features": FLAGGED,
        "out": str(out),
        "epochs": 2,
        "batch_size": 64,
        "lr": 3e-3,
        "optimizer": "adamw",
        "deterministic": True,
        "progress": False,
    } | others


@pytest.fixture(scope="module")
def pretrained(unlabelled: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    torch.set_num_threads(1)
    return train(**options(unlabelled, tmp_path_factory.mktemp("pretrained") / "run", epochs=4))


def weights(run: Run) -> torch.Tensor:
    stored = read_checkpoint(checkpoint_path(run.path, "last"))["tagger"]
    layers = stored["objective"]["parts"][0]["weights"]
    values = [*stored["weights"].values(), *layers.values()]
    return torch.cat([value.flatten().double() for value in values])


def test_the_density_is_that_of_a_mixture_of_gaussians() -> None:
    torch.manual_seed(0)
    parameters, values = torch.randn(50, 8 * 7) / 2, torch.randn(50, 3)
    logits, means, log_sigma = parameters.split([8, 24, 24], dim=-1)
    components = distributions.Independent(
        distributions.Normal(means.unflatten(-1, (8, 3)), log_sigma.unflatten(-1, (8, 3)).exp()), 1
    )
    mixture = distributions.MixtureSameFamily(distributions.Categorical(logits=logits), components)
    torch.testing.assert_close(_log_likelihood(parameters, values), mixture.log_prob(values))


def test_types_are_those_of_the_flags_whatever_their_standardisation() -> None:
    jets = flagged_jets(100)
    data = JetDataset(jets, features=[*FLAGGED[:2], {"name": "is_muon", "shift": 0.3, "scale": 4}])
    objective = MaskedParticles()
    objective.fit(data)
    found = objective._types(data.x)
    photon, muon = (data.x[:, i] > 0.5 for i in (7, 8))
    expected = torch.full_like(found, 2)
    expected[photon], expected[muon] = 0, 1
    assert torch.equal(found, expected)
    fractions = torch.bincount(expected).double() / len(expected)
    torch.testing.assert_close(objective.log_fractions.double().exp(), fractions, rtol=0.1, atol=0)


def test_constants_make_hidden_momenta_of_mean_0_and_spread_1() -> None:
    data = JetDataset(make_jets(2000))
    objective = MaskedParticles()
    objective.fit(data)
    from pcloud.batch.collate import collate

    hidden = objective.hide(collate(data, torch.arange(2000)), torch.Generator().manual_seed(9))[1]
    rows = objective.rows(torch.zeros(2000, 64), vars(hidden))
    momenta = rows.labels[:, :3]
    assert momenta.mean(0).abs().max() < 0.05
    assert (momenta.std(0) - 1).abs().max() < 0.05
    constant = objective.constant_losses(rows).mean()
    assert constant == pytest.approx(1.5 * (1 + np.log(2 * np.pi)), abs=0.1)


def test_jets_without_labels_teach_momenta_and_types(pretrained: Run) -> None:
    row = pretrained.history[-1]
    assert row["val_gain_masked"] > 0.1  # from the rank alone comes much of pT
    assert 0 < row["val_acc_masked"] < 1
    assert "val_acc" not in row
    assert row["val_loss"] < pretrained.history[0]["val_loss"]


def test_the_objective_is_stored_with_its_layers(pretrained: Run) -> None:
    objective = pretrained.objective
    again = objective_from_dict(objective.to_dict())
    assert again.masked is not None
    assert again.masked.fraction == pytest.approx(1 / 3)
    assert again.masked.flags == objective.masked.flags == {7: (0.0, 1.0), 8: (0.0, 1.0)}
    for name, value in objective.masked.layers.state_dict().items():
        assert torch.equal(again.masked.layers.state_dict()[name], value)


def test_a_pretraining_continues_exactly(
    unlabelled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(**options(unlabelled, tmp_path / "whole"))
    stopped = options(unlabelled, tmp_path / "stopped", checkpoint_steps=3)

    class Stopped(Exception):
        pass

    save = callbacks.RunCheckpoint._save

    def stop(self: Any, trainer: Any) -> None:
        save(self, trainer)
        if self.state.step == 3:
            raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.RunCheckpoint, "_save", stop)
        with pytest.raises(Stopped):
            train(**stopped)
    again = train(**stopped)
    assert torch.equal(weights(again), weights(whole))
    assert [r["val_loss"] for r in again.history] == [r["val_loss"] for r in whole.history]
    mapped = train(**options(unlabelled, tmp_path / "mapped", storage="map"))
    assert torch.equal(weights(mapped), weights(whole))


def test_a_stream_is_learned_from_without_labels(unlabelled: str, tmp_path: Path) -> None:
    run = train(**options(unlabelled, tmp_path / "run", storage="stream", epochs=3))
    assert run.history[-1]["val_gain_masked"] > 0


def test_a_pretrained_network_begins_a_training(
    pretrained: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "labelled.parquet"
    pcloud.write_jets(flagged_jets(200, 5), path)
    given = ["train", "--data", str(path), "--model", TINY, "--features", *FLAGGED]
    given += ["--init-from", str(pretrained.path), "--out", str(tmp_path / "run"), "--steps", "6"]
    assert main([*given, "--batch-size", "32"]) == 0
    assert "reset  head" in capsys.readouterr().err
    assert 0 < Run(tmp_path / "run").history[-1]["val_auc"] < 1


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_a_pretraining_has_no_predictions(
    command: str, pretrained: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "jets.parquet"
    pcloud.write_jets(flagged_jets(20), path)
    out = ["-o", str(tmp_path / "s.parquet")] if command == "predict" else []
    words = [command, str(pretrained.path), *([str(path)] if out else []), *out]
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "was pretrained and has no predictions: train from it with --init-from" in line


def test_the_command_is_a_training_of_hidden_particles(
    unlabelled: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["pretrain", "--data", unlabelled, "--model", TINY, "--out", str(tmp_path / "run")]
    assert main([*words, "--steps", "6", "--hidden-fraction", "0.5", "--batch-size", "64"]) == 0
    assert "50% of the particles hidden" in capsys.readouterr().err
    run = Run(tmp_path / "run")
    assert run.config.objective == [{"kind": "masked", "fraction": 0.5}]
    assert "val_acc_masked" not in run.history[-1]  # kin has no types
    assert main([*words, "--hidden-fraction", "1.5"]) == 2
    assert main([*words, "--ensemble", "2"]) == 2
    assert "one network" in capsys.readouterr().err


def test_what_cannot_be_hidden_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="stands alone: class"):
        parse_objectives(["class", "masked"])
    with pytest.raises(InputError, match="between 0 and 1, got 2"):
        Specification.parse("masked:2")
    with pytest.raises(InputError, match="no target: leave out 'mass'"):
        Specification.parse({"kind": "masked", "target": "mass"})
    jets = make_jets(300)
    objective = make_objective(parse_objectives("masked"))
    with pytest.raises(InputError, match="none of the training jets has 3 or more particles"):
        objective.fit(JetDataset(jets[np.asarray(pcloud_counts(jets)) < 3]))


def pcloud_counts(jets: Any) -> Any:
    import awkward as ak

    return ak.num(jets.p4)


def test_the_standardisation_of_a_pretraining_is_kept(unlabelled: str, tmp_path: Path) -> None:
    features = ["kin", "log(pt + 3)"]
    first = train(**options(unlabelled, tmp_path / "first", features=features, epochs=1))
    path = tmp_path / "labelled.parquet"
    pcloud.write_jets(make_jets(200, 8), path)
    given = options(str(path), tmp_path / "run", features=features, objective="class", epochs=1)
    run = train(**given | {"init_from": str(first.path)})
    assert run.feature_set.features == first.feature_set.features
    alone = train(**given | {"out": str(tmp_path / "alone")})
    assert alone.feature_set.features[-1] != first.feature_set.features[-1]


def test_the_report_of_a_pretraining_has_its_gain_and_misses_no_scores(
    pretrained: Run, tmp_path: Path
) -> None:
    page = pretrained.report(tmp_path / "report").read_text(encoding="utf-8")
    gain = max(row["val_gain_masked"] for row in pretrained.history)
    assert f"{gain:.2f} nats per particle better than constant predictions" in page
    assert "was not found" not in page
    assert "pcloud evaluate" not in page
    assert (tmp_path / "report/figures/training_objectives.png").exists()
