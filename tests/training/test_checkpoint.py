"""Checkpoints: whole, self-describing, and nothing in them runs."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from pcloud.errors import InputError
from pcloud.features import feature_set
from pcloud.run_files import write_atomic
from pcloud.training.checkpoint import Tagger, read_checkpoint, write_checkpoint


@pytest.fixture
def tagger() -> Tagger:
    torch.manual_seed(3)
    return Tagger.build("pfn", {}, feature_set(["log_pt", "deta"]), ["x", "y", "z"])


def test_a_checkpoint_alone_gives_the_tagger_back(tagger: Tagger, tmp_path: Path) -> None:
    write_checkpoint({"tagger": tagger.to_dict()}, tmp_path / "checkpoints" / "a.ckpt")
    read = Tagger.from_dict(read_checkpoint(tmp_path / "checkpoints" / "a.ckpt")["tagger"])
    assert read.classes == ["x", "y", "z"]
    assert read.feature_set == tagger.feature_set
    assert read.name == "pfn"
    for key, value in tagger.model.state_dict().items():
        assert value.equal(read.model.state_dict()[key])


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "pwned",))

    with (tmp_path / "evil.ckpt").open("wb") as file:
        pickle.dump({"tagger": Evil()}, file, protocol=2)
    torch.save({"tagger": Evil()}, tmp_path / "evil2.ckpt")
    for name in ("evil.ckpt", "evil2.ckpt"):
        with pytest.raises(InputError, match="not a readable checkpoint"):
            read_checkpoint(tmp_path / name)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("part", [0.0, 0.3, 0.99])
def test_a_damaged_checkpoint_is_an_error(tagger: Tagger, tmp_path: Path, part: float) -> None:
    path = tmp_path / "a.ckpt"
    write_checkpoint({"tagger": tagger.to_dict()}, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(InputError, match="not a readable checkpoint"):
        read_checkpoint(path)


def test_a_file_of_something_else_is_an_error(tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.ckpt")
    with pytest.raises(InputError, match="not a checkpoint of this version"):
        read_checkpoint(tmp_path / "other.ckpt")


def test_weights_that_do_not_fit_are_an_error(tagger: Tagger) -> None:
    content = tagger.to_dict()
    content["classes"] = ["x", "y"]
    with pytest.raises(InputError, match="the weights do not fit the model 'pfn'"):
        Tagger.from_dict(content)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, lambda file: file.write(b"old"))
    with pytest.raises(ZeroDivisionError):
        write_atomic(path, lambda file: file.write(b"new") / 0)
    assert path.read_bytes() == b"old"
