"""Samples and weights by name, from a local server in the place of the authors' ones."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import struct
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import pcloud
from pcloud.cli import main
from pcloud.datasets import dataset_files, dataset_info, sources
from pcloud.datasets.downloads import FirstChecksumWarning, data_root, sample_path
from pcloud.datasets.sources import RemoteFile, list_sources, remote_sample
from pcloud.errors import InputError, UnknownNameError
from tests.io.server import file, serving
from tests.models.test_official import weaver_state

DOCS = Path(__file__).parents[2] / "docs" / "downloads.md"


def every_file() -> list[tuple[str, RemoteFile]]:
    samples = [remote_sample(name) for name in list_sources()]
    return [(s.name, file) for s in samples for part in s.splits.values() for file in part]


def md5(content: bytes) -> str:
    return f"md5:{hashlib.md5(content, usedforsecurity=False).hexdigest()}"


@pytest.fixture(scope="module")
def server():
    with serving() as running:
        yield running


@pytest.fixture
def serve(server, monkeypatch, tmp_path):
    """Let a name have other files, by name with their content."""
    server.answers.clear()
    server.ranges.clear()
    monkeypatch.setenv("PCLOUD_DATA", str(tmp_path))

    def change(name: str, published: bool = True, **unpack: str) -> None:
        sample = remote_sample(name)
        splits = {}
        for split, files in sample.splits.items():
            made = []
            for remote in files:
                content = contents[remote.name]
                server.answers[remote.name] = file(content)
                checksum = md5(content) if published else None
                address = server.url(remote.name)
                made.append(replace(remote, address=address, checksum=checksum, size=None))
            splits[split] = tuple(made)
        changed = {**sources._sources(), name: replace(sample, splits=splits)}
        monkeypatch.setattr(sources, "_sources", lambda: changed)

    contents: dict[str, bytes] = {}
    change.contents = contents
    return change


def test_every_address_is_that_of_one_file():
    files = every_file()
    addresses = [file.address for _, file in files if file.address]
    assert len(set(addresses)) == len(addresses)
    assert all(address.startswith("https://") for address in addresses)
    form = {"md5": 32, "sha256": 64, "adler32": 8}
    for _, remote in files:
        if remote.checksum:
            algorithm, _, digits = remote.checksum.partition(":")
            assert re.fullmatch(f"[0-9a-f]{{{form[algorithm]}}}", digits), remote


def test_the_samples_of_the_documentation_have_names():
    expected = {"atlas_higgs", "atlas_top", "cresst", "galaxy10_decals", "galaxy10_sdss"}
    expected |= {"jetclass", "jetset", "landscape", "mnist", "quark_gluon"}
    assert {name for name in list_sources() if "/" not in name} == expected
    text = DOCS.read_text(encoding="utf-8")
    for name in list_sources():
        sample = remote_sample(name)
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}`"))
        assert sample.page in row
        assert sample.licence in row
        assert all(f"`{split}`" in row for split in sample.splits if split != "all")


def test_addresses_and_checksums_of_jets_are_those_of_the_samples():
    for name in ("landscape", "jetclass", "quark_gluon"):
        for split, part in dataset_info(name).splits.items():
            remote = remote_sample(name).splits[split]
            assert [f"md5:{d.md5}" for d in part.downloads] == [r.checksum for r in remote]
            assert [d.size for d in part.downloads] == [r.size for r in remote]


def test_the_folder_is_moved_by_the_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PCLOUD_DATA", raising=False)
    assert data_root() == tmp_path / ".cache" / "pcloud" / "data"
    monkeypatch.setenv("PCLOUD_DATA", "~/elsewhere")
    assert data_root() == tmp_path / "elsewhere"
    assert data_root(tmp_path) == tmp_path


def test_a_split_is_downloaded_and_found_by_its_name(serve, server, tmp_path):
    serve.contents |= {f"{split}.h5": split.encode() for split in ("train", "val", "test")}
    serve("landscape")
    (path,) = pcloud.download("landscape", splits="test")
    assert path == tmp_path / "landscape" / "test.h5"
    assert path.read_bytes() == b"test"
    assert dataset_files("landscape", "test") == [path]
    with pytest.raises(FileNotFoundError, match=r"pcloud download landscape --splits train$"):
        dataset_files("landscape", "train")
    assert len(pcloud.download("landscape")) == 3
    assert len(server.ranges) == 3  # the test file was there
    with pytest.raises(UnknownNameError, match=r"no split named 'tst'.*did you mean 'test'"):
        pcloud.download("landscape", splits=["tst"])
    with pytest.raises(UnknownNameError, match="did you mean 'landscape'"):
        pcloud.download("lanscape")


def test_a_first_checksum_is_stored_and_compared(serve, server, tmp_path):
    name = "atlas-higgs-challenge-2014-v2.csv.gz"
    serve.contents[name] = b"events"
    serve("atlas_higgs", published=False)
    with pytest.warns(FirstChecksumWarning, match="publish no checksum; that of this download"):
        (path,) = pcloud.download("atlas_higgs")
    stored = json.loads((tmp_path / "checksums.json").read_text())
    assert stored == {server.url(name): f"sha256:{hashlib.sha256(b'events').hexdigest()}"}
    path.unlink()
    assert pcloud.download("atlas_higgs") == [path]  # without a warning
    path.unlink()
    server.answers[name] = file(b"other")
    with pytest.raises(InputError, match="is not the file that was expected"):
        pcloud.download("atlas_higgs")
    assert not path.exists()
    (tmp_path / "checksums.json").write_text("[]")
    with pytest.raises(InputError, match="holds no checksums"):
        pcloud.download("atlas_higgs")


def archive(*names: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 4
            tar.addfile(member, io.BytesIO(b"jets"))
    return buffer.getvalue()


def test_archives_are_unpacked_once(serve, server, tmp_path):
    downloads = [r for part in remote_sample("jetclass").splits.values() for r in part]
    serve.contents |= {remote.name: archive("val_5M/HToBB_120.root") for remote in downloads}
    serve("jetclass")
    assert pcloud.download("jetclass", splits="val") == [tmp_path / "jetclass"]
    assert [p.name for p in dataset_files("jetclass", "val")] == ["HToBB_120.root"]
    assert not (tmp_path / "jetclass" / "JetClass_Pythia_val_5M.tar").exists()
    pcloud.download("jetclass", splits="val")
    assert len(server.ranges) == 1


@pytest.mark.parametrize("name", ["../outside.root", "/outside.root"])
def test_archives_write_nothing_outside_of_their_folder(serve, tmp_path, name):
    downloads = [r for part in remote_sample("jetclass").splits.values() for r in part]
    serve.contents |= {remote.name: archive(name) for remote in downloads}
    serve("jetclass")
    with pytest.raises(InputError, match="a file outside of its folder"):
        pcloud.download("jetclass", splits="test")
    assert not list(tmp_path.rglob("outside.root"))


def test_a_sample_without_address_is_taken_by_hand(monkeypatch, tmp_path):
    monkeypatch.setenv("PCLOUD_DATA", str(tmp_path))
    with pytest.raises(
        InputError, match=r"get it from https://www.origins.* put it at .*X_test.npy"
    ):
        pcloud.download("cresst", splits="test")
    (tmp_path / "cresst").mkdir()
    for name in ("X_test.npy", "features_test.csv"):
        (tmp_path / "cresst" / name).write_bytes(b"pulses")
    assert len(pcloud.download("cresst", splits="test")) == 2


@pytest.mark.filterwarnings("ignore::pcloud.datasets.downloads.FirstChecksumWarning")
def test_official_weights_have_names(serve, tmp_path):
    model = pcloud.build_model("particlenet", in_features=7, num_outputs=10)
    buffer = io.BytesIO()
    torch.save(weaver_state(model), buffer)
    serve.contents["particlenet_jetclass_kin.pt"] = buffer.getvalue()
    serve("particlenet/jetclass_kin", published=False)
    loaded = pcloud.load_official("particlenet", weights="jetclass_kin")
    assert (tmp_path / "weights" / "particlenet_jetclass_kin.pt").exists()
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name

    from pcloud.training.weights import read_weights

    weights = read_weights("particlenet/jetclass_kin", "particlenet")
    assert weights.classes == list(dataset_info("jetclass").classes)


def test_wrong_names_of_weights_get_the_nearest():
    with pytest.raises(UnknownNameError, match=r"no official weights named 'jetclas_kin'.*_kin'"):
        pcloud.load_official("particlenet", weights="jetclas_kin")
    with pytest.raises(UnknownNameError, match="did you mean 'particlenet'"):
        pcloud.load_official("particlnet", weights="jetclass_kin")
    for wrong in ({}, {"path": "a.pt", "weights": "jetclass_kin"}):
        with pytest.raises(InputError, match="a path, or the name of published weights"):
            pcloud.load_official("particlenet", **wrong)


def idx(*shape: int) -> bytes:
    size = torch.Size(shape).numel()
    head = bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    return gzip.compress(head + bytes(i % 3 for i in range(size)))


def test_images_are_read_by_their_name(serve, tmp_path):
    from pcloud.modality import find_modality
    from pcloud.training.config import TrainConfig

    with pytest.raises(FileNotFoundError, match="pcloud download mnist"):
        sample_path("mnist")
    for split in ("train", "t10k"):
        serve.contents[f"{split}-images-idx3-ubyte.gz"] = idx(6, 4, 4)
        serve.contents[f"{split}-labels-idx1-ubyte.gz"] = idx(6)
    serve("mnist")
    pcloud.download("mnist")
    config = TrainConfig(data="mnist", model="cnn", out=str(tmp_path))
    assert config.data == "mnist"
    images = find_modality("image").load("mnist", "test", config.inputs)
    assert images.images.shape == (6, 1, 4, 4)


def test_the_command_prints_the_paths(serve, tmp_path, capsys):
    serve.contents |= {f"{split}.h5": split.encode() for split in ("train", "val", "test")}
    serve("landscape")
    assert main(["download", "landscape", "--splits", "val", "test"]) == 0
    expected = [str(tmp_path / "landscape" / f"{split}.h5") for split in ("val", "test")]
    assert capsys.readouterr().out.split() == expected
    assert main(["download", "lanscape"]) == 2
    assert "did you mean 'landscape'" in capsys.readouterr().err
