"""Large arrays in memory and in mapped files."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pcloud import JetDataset
from pcloud.errors import CannotWriteError, InputError
from pcloud.io.growing import GrowingColumn
from pcloud.storage import MappedFiles, dump, load, mapped_files
from tests.training.conftest import make_jets


def test_a_mapped_data_set_is_that_in_memory(tmp_path: Path) -> None:
    jets = make_jets(50, seed=1)
    mapped = JetDataset(jets, "kin", storage=MappedFiles(tmp_path))
    inside = JetDataset(jets, "kin")
    for name in ("x", "p4", "order"):
        assert torch.equal(getattr(mapped, name), getattr(inside, name))
    assert {tensor.mapped_file.parent for tensor in (mapped.x, mapped.p4)} == {tmp_path}


def test_other_processes_share_the_pages_of_mapped_tensors(tmp_path: Path) -> None:
    data = JetDataset(make_jets(50, seed=1), "kin", storage=MappedFiles(tmp_path))
    content = dump(data)
    assert len(content) < data.x.nbytes  # the names of the files in the place of their content
    other = load(content)
    assert torch.equal(other.x, data.x)
    assert torch.equal(other[3].p4, data[3].p4)
    data.x[0, 0] = 7.0
    assert other.x[0, 0] == 7.0  # one page of two tensors
    other.x[0, 0] = 8.0
    assert data.x[0, 0] == 7.0


def test_a_shared_data_set_without_its_files_is_an_input_error(tmp_path: Path) -> None:
    with mapped_files(tmp_path) as storage:
        content = dump(storage.tensor((3,), torch.float32))
    with pytest.raises(InputError, match="does not exist on this machine"):
        load(content)


def test_columns_grow_in_files_and_leave_none_behind(tmp_path: Path) -> None:
    column = GrowingColumn("pt", MappedFiles(tmp_path))
    parts = [np.arange(n, dtype=np.float32) for n in (3, 10, 0, 100)]
    for part in parts:
        column.append(part, 5)
    column.append(np.arange(4.0), 5)  # of another type
    assert np.array_equal(column.values, np.concatenate([*parts, np.arange(4.0)]))
    assert len(list(tmp_path.iterdir())) == 1


def test_files_are_removed_with_those_of_killed_processes(tmp_path: Path) -> None:
    (tmp_path / ".pcloud-map-old").mkdir()
    (tmp_path / ".pcloud-map-old" / "0.bin").write_bytes(b"old")
    with mapped_files(tmp_path) as storage:
        storage.tensor((3,), torch.float32)
        assert [path.name for path in tmp_path.iterdir()] == [storage.folder.name]
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_an_error_and_not_the_end_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full, raising=False)
    with pytest.raises(CannotWriteError, match=r"No space left on device.*choose another folder"):
        MappedFiles(tmp_path).tensor((3,), torch.float32)
