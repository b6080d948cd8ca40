"""Files on servers, by fsspec."""

from __future__ import annotations

import builtins

import fsspec
import pytest

from pcloud.cli.program import main
from pcloud.errors import InputError, MissingExtraError, UnknownNameError
from pcloud.io import count_jets, read_jets, remote, write_jets
from pcloud.training.config import TrainConfig
from tests.io.conftest import assert_same_jets, make_flat


@pytest.fixture
def memory(tmp_path, monkeypatch):
    """File system in memory with two files of jets, and an empty folder for copies."""
    monkeypatch.setenv("PCLOUD_CACHE", str(tmp_path / "cache"))
    system = fsspec.filesystem("memory")
    for i in range(2):
        jets = make_flat(num_jets=20, seed=i).to_awkward()
        write_jets(jets, tmp_path / "a.parquet", overwrite=True)
        system.pipe_file(f"/jets/{i}.parquet", (tmp_path / "a.parquet").read_bytes())
    yield system
    system.rm("/jets", recursive=True)


def test_files_of_a_server_are_copied_once(memory, tmp_path, monkeypatch):
    jets = read_jets("memory://jets/0.parquet")
    assert_same_jets(jets, make_flat(num_jets=20, seed=0))
    copies = list((tmp_path / "cache").rglob("*.parquet"))
    assert [copy.name for copy in copies] == ["0.parquet"]
    get_file = type(memory).get_file
    monkeypatch.setattr(type(memory), "get_file", None)
    assert count_jets("memory://jets/0.parquet") == 20
    monkeypatch.setattr(type(memory), "get_file", get_file)
    assert count_jets("memory://jets/*.parquet") == 40
    assert count_jets(["memory://jets/1.parquet", str(copies[0])]) == 40


def test_a_changed_file_is_copied_again(memory):
    assert count_jets("memory://jets/0.parquet") == 20
    memory.pipe_file("/jets/0.parquet", memory.cat_file("/jets/1.parquet"))
    jets = read_jets("memory://jets/0.parquet")
    assert_same_jets(jets, make_flat(num_jets=20, seed=1))


def test_local_addresses_are_not_copied(memory, tmp_path):
    assert remote.local_copies(f"file://{tmp_path}/a.parquet") == [tmp_path / "a.parquet"]
    assert count_jets(f"file://{tmp_path}/a.parquet") == 20
    assert not (tmp_path / "cache").exists()


def test_what_cannot_be_copied_is_an_error(memory, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"memory://jets/7\.parquet: no such file"):
        count_jets("memory://jets/7.parquet")
    with pytest.raises(FileNotFoundError, match="memory://jets/x"):
        count_jets("memory://jets/x*.parquet")
    with pytest.raises(InputError, match="memory://jets: is a folder; give its files"):
        count_jets("memory://jets")
    with pytest.raises(UnknownNameError, match=r"no protocol named 'memori'.*'memory'"):
        count_jets("memori://jets/0.parquet")

    def fail(*args, **options):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(type(memory), "get_file", fail)
    with pytest.raises(InputError, match=r"1\.parquet: cannot be copied \(no route to host\)"):
        count_jets("memory://jets/1.parquet")


@pytest.mark.parametrize(
    ("address", "package"),
    [("s3://bucket/a.root", "s3fs"), ("root://host//store/a.root", "fsspec-xrootd")],
)
def test_the_package_of_a_protocol_is_named(address, package, monkeypatch, capsys):
    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(fsspec.core, "url_to_fs", absent)
    with pytest.raises(MissingExtraError, match=f"needs {package}: pip install {package}"):
        read_jets(address)
    assert main(["convert", address, "new.parquet"]) == 2
    assert f"pcloud: error: reading {address} needs {package}" in capsys.readouterr().err


def test_without_fsspec_it_is_named(monkeypatch):
    original = builtins.__import__

    def absent(name, *args, **options):
        if name == "fsspec":
            raise ImportError(name)
        return original(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingExtraError, match="needs fsspec: pip install fsspec"):
        remote.local_copies("https://host/a.root")


def test_addresses_stay_in_the_configuration_of_a_run(tmp_path):
    config = TrainConfig(data="s3://bucket/a.root", model="pfn", out=str(tmp_path))
    assert config.with_absolute_paths().data == "s3://bucket/a.root"
