"""Training on a stream of jets from Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import torch

import pcloud
from pcloud import Run, train
from pcloud.batch import JetStream
from pcloud.errors import InputError
from pcloud.training import TrainConfig, callbacks
from pcloud.training.checkpoint import checkpoint_path, read_checkpoint
from pcloud.training.data import load_training_data
from pcloud.training.doubts import DoubtfulJetsWarning
from pcloud.training.module import JetData
from pcloud.training.reweight import reweight
from pcloud.training.streamed import _without_particles
from tests.training.conftest import TINY, make_jets


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two files with row groups of about 80 jets, which have weights."""
    folder = tmp_path_factory.mktemp("streamed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pcloud.io.parquet.ROW_GROUP", 500)
        for seed, size in enumerate((230, 410)):
            jets = make_jets(size, seed)
            jets["weight"] = np.random.default_rng(seed).uniform(0.5, 2.0, size)
            pcloud.write_jets(jets, folder / f"{seed}.parquet")
    return [str(path) for path in sorted(folder.iterdir())]


@pytest.fixture
def streamed(files: list[str], tmp_path: Path) -> dict[str, Any]:
    return {
        "data": files,
        "model": TINY,
        "out": str(tmp_path / "run"),
        "epochs": 2,
        "batch_size": 64,
        "deterministic": True,
        "storage": "stream",
    }


def weights(run: Run) -> torch.Tensor:
    stored = read_checkpoint(checkpoint_path(run.path, "last"))["tagger"]["weights"]
    return torch.cat([value.flatten().double() for value in stored.values()])


def test_columns_per_jet_do_not_hold_the_memory_of_the_particles() -> None:
    jets = make_jets(200)
    kept = _without_particles(jets[np.arange(150)])
    _, _, buffers = ak.to_buffers(kept)
    for buffer in buffers.values():
        while buffer.base is not None:
            buffer = buffer.base
        assert buffer.nbytes <= 8 * 151
    assert ak.num(kept.p4, axis=1).to_list() == [0] * 150


def test_repeated_jets_are_found_in_a_stream_as_in_memory(tmp_path: Path) -> None:
    jets = make_jets(200)
    pcloud.write_jets(ak.concatenate([jets, jets[:30]]), tmp_path / "jets.parquet")
    config = TrainConfig(data=str(tmp_path / "jets.parquet"), model=TINY, out="unused")
    found = []
    for is_stream in (False, True):
        with pytest.warns(DoubtfulJetsWarning) as caught:
            load_training_data(config, stream=is_stream)
        found.append([str(warning.message) for warning in caught])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"class_weights": "balanced"},
        {"max_jets": 300},
        {"schema": {"select": "weight > 1"}},
        {"val_fraction": 0.3, "test_fraction": 0.2},
    ],
)
@pytest.mark.filterwarnings("ignore:.*select:pcloud.io.selection.SelectionWarning")
def test_what_is_known_of_all_jets_is_as_in_memory(
    streamed: dict[str, Any], more: dict[str, Any]
) -> None:
    inside = load_training_data(TrainConfig(**streamed | more))
    read = load_training_data(TrainConfig(**streamed | more), stream=True)
    assert isinstance(read.train, JetStream)
    assert len(read.train) == len(inside.train)
    assert read.identity.plain() == inside.identity.plain()
    assert torch.equal(read.identity.sketch, inside.identity.sketch)
    assert torch.equal(read.train.y, inside.train.y)
    assert torch.equal(read.train.weight, inside.train.weight)  # type: ignore[attr-defined]
    assert torch.equal(read.val.x, inside.val.x)  # type: ignore[attr-defined]
    for data in (inside, read):
        data.objective.fit(data.train)
    losses = [data.objective.parts[0].jet_loss for data in (inside, read)]  # type: ignore
    assert losses[0].mean_weight == losses[1].mean_weight


def test_a_stream_is_learned_from(streamed: dict[str, Any]) -> None:
    run = train(**streamed | {"epochs": 6, "lr": 0.02}, progress=False)
    assert run.history[-1]["val_loss"] < run.history[0]["val_loss"]
    assert run.config.storage == "stream"
    assert not list(run.path.glob(".*"))


def test_a_stream_continues_where_it_was_stopped(
    streamed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(**streamed, progress=False)
    streamed |= {"out": str(tmp_path / "stopped"), "checkpoint_steps": 3}

    class Stopped(Exception):
        pass

    save = callbacks.RunCheckpoint._save

    def stop(self: Any, trainer: Any) -> None:
        save(self, trainer)
        if self.state.step in (3, 12):
            raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.RunCheckpoint, "_save", stop)
        for _ in range(2):
            with pytest.raises(Stopped):
                train(**streamed, progress=False)
    assert torch.equal(weights(train(**streamed, progress=False)), weights(whole))


def test_a_stream_is_not_continued_in_other_shards(
    streamed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train(**streamed | {"epochs": 1}, progress=False)
    state = read_checkpoint(checkpoint_path(run.path, "last"))
    assert state["run"]["shards"] == 1
    config = TrainConfig(**streamed)
    jets = load_training_data(config, stream=True)
    jets.objective.fit(jets.train)
    data = JetData(jets, config.resolved_recipe(), 0, stream_workers=3)
    keeper = callbacks.RunCheckpoint(run.path, config.run, None, jets.identity, None)  # type: ignore
    state["run"]["state"] |= {"next_batch": 2}
    with pytest.raises(InputError, match=r"by 3 processes .* the order|whose order is that of 1"):
        keeper.restore(state, None, data)  # type: ignore[arg-type]


def test_a_run_that_began_with_a_stream_stays_with_it(streamed: dict[str, Any]) -> None:
    streamed |= {"epochs": 1}
    first = train(**streamed, progress=False)
    again = train(**streamed | {"storage": "auto"}, progress=False)
    assert again.history == first.history
    with pytest.raises(InputError, match="storage 'stream' is now 'map'"):
        train(**streamed | {"storage": "map"}, progress=False)


def test_teachers_score_a_stream(
    streamed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pcloud.training.distillation._CHUNK", 100)
    streamed |= {"epochs": 1}
    teacher = train(**streamed | {"out": str(tmp_path / "teacher")}, progress=False)
    found = {}
    for storage in ("stream", "memory"):
        options = streamed | {"out": str(tmp_path / storage), "teacher": str(teacher.path)}
        run = train(**options | {"storage": storage}, progress=False)
        parts = sorted((run.path / "teacher").glob("*.npy"))
        found[storage] = np.concatenate([np.load(path) for path in parts])
    assert np.array_equal(found["stream"], found["memory"])


def test_jets_that_do_not_fit_are_streamed_where_the_disk_is_small(
    streamed: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("pcloud.training.jet_storage._DISK_SHARE", 0.0)
    run = train(**streamed | {"storage": "auto", "memory_limit": 1e-6, "epochs": 1})
    assert "a stream from their files (storage stream)" in capsys.readouterr().err
    assert run.config.storage == "stream"


def test_spectra_of_a_stream_are_equalised_as_in_memory(streamed: dict[str, Any]) -> None:
    config = TrainConfig(**streamed)
    found = [
        reweight(load_training_data(config, stream=stream), ["pt", "mass"], 20.0)
        for stream in (False, True)
    ]
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    assert found[0][1].rows() == found[1][1].rows()
