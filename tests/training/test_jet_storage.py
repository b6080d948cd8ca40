"""Place of the jets of a training: memory, mapped files or a stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pcloud import Run, train
from pcloud.errors import InputError
from pcloud.io import write_jets
from pcloud.training import fit
from pcloud.training.checkpoint import checkpoint_path, read_checkpoint
from tests.training.conftest import make_jets


def weights(run: Run) -> torch.Tensor:
    stored = read_checkpoint(checkpoint_path(run.path, "last"))["tagger"]["weights"]
    return torch.cat([value.flatten().double() for value in stored.values()])


def losses(run: Run) -> list[tuple[float, float]]:
    return [(row["train_loss"], row["val_loss"]) for row in run.history]


def test_training_with_mapped_jets_is_that_in_memory(
    options: dict[str, Any], tmp_path: Path
) -> None:
    inside = train(**options, progress=False)
    mapped = train(**options | {"out": str(tmp_path / "mapped"), "storage": "map"}, progress=False)
    assert torch.equal(weights(mapped), weights(inside))
    assert losses(mapped) == losses(inside)
    assert not list(mapped.path.glob(".*"))
    (mapped.path / ".pcloud-map-old").mkdir()  # of a process killed after the last step
    train(**options | {"out": str(mapped.path), "storage": "map"}, progress=False)
    assert not list(mapped.path.glob(".*"))


def test_a_subsample_of_mapped_jets_is_that_in_memory(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pcloud.training.splits._COPIED_ENTRIES", 7)
    options |= {"max_jets": 150, "max_val_jets": 20, "epochs": 1}
    inside = train(**options, progress=False)
    mapped = train(**options | {"out": str(tmp_path / "mapped"), "storage": "map"}, progress=False)
    assert torch.equal(weights(mapped), weights(inside))


def test_jets_beyond_the_memory_limit_are_mapped_which_is_said(
    options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    train(**options | {"memory_limit": 1e-6, "epochs": 1})
    said = capsys.readouterr().err
    assert "500 jets need 0.000" in said
    assert "more than 1e-06 GB: mapped files (storage map)" in said


def test_a_run_is_continued_in_another_place(options: dict[str, Any]) -> None:
    first = train(**options, progress=False)
    before = first.history
    assert train(**options | {"storage": "map"}, progress=False).history == before


@pytest.mark.parametrize(
    "workers", [1, pytest.param(2, marks=[pytest.mark.once, pytest.mark.slow])]
)
def test_members_of_an_ensemble_share_mapped_jets(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    calls = []
    load = fit.load_training_data
    monkeypatch.setattr(
        fit, "load_training_data", lambda *data, **more: calls.append(1) or load(*data, **more)
    )
    options |= {"epochs": 1, "ensemble": 2, "workers": workers, "storage": "map"}
    train(**options, progress=False)
    assert len(calls) == 1
    options |= {"storage": "memory", "out": str(tmp_path / "memory"), "workers": 1}
    train(**options, progress=False)
    for member in ("1", "2"):
        runs = [
            Run(next((tmp_path / name / "members").glob(f"*{member}")))
            for name in ("run", "memory")
        ]
        assert torch.equal(weights(runs[0]), weights(runs[1]))


def test_neither_memory_nor_disk_is_an_input_error(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pcloud.training.jet_storage._DISK_SHARE", 0.0)
    write_jets(make_jets(50), tmp_path / "jets.npz")
    options |= {"data": str(tmp_path / "jets.npz"), "memory_limit": 1e-6}
    with pytest.raises(InputError, match=r"do not fit on the disk of .* or Parquet files"):
        train(**options, progress=False)


def test_a_stream_needs_parquet_files(options: dict[str, Any], tmp_path: Path) -> None:
    write_jets(make_jets(50), tmp_path / "jets.npz")
    with pytest.raises(InputError, match="needs Parquet files"):
        train(**options | {"data": str(tmp_path / "jets.npz"), "storage": "stream"}, progress=False)
