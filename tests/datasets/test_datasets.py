from __future__ import annotations

import hashlib

import numpy as np
import pytest

from pcloud import list_datasets, load_dataset
from pcloud.datasets import DatasetInfo, Download, Split, dataset_files, dataset_info
from pcloud.errors import InputError, UnknownNameError
from pcloud.io import SCHEMAS
from tests.io.conftest import assert_same_jets, landscape_frame, make_flat
from tests.io.test_npz import energyflow
from tests.io.test_root import jetclass_branches
from tests.io.test_root import write as write_root

SIZES = {
    "landscape": (1_211_000, 403_000, 404_000),
    "jetclass": (100_000_000, 5_000_000, 20_000_000),
    "quark_gluon": (1_600_000, 200_000, 200_000),
}


def test_the_samples_are_listed():
    assert {*SIZES, "simulated"} <= set(list_datasets())
    assert list_datasets() == sorted(list_datasets())


@pytest.mark.parametrize("name", SIZES)
def test_a_public_sample_says_what_it_is(name):
    info = dataset_info(name)
    assert tuple(split.num_jets for split in info.splits.values()) == SIZES[name]
    assert tuple(info.splits) == ("train", "val", "test")
    assert info.classes == SCHEMAS[info.schema].classes
    assert info.url.startswith("https://zenodo.org/records/")
    downloads = [d for split in info.splits.values() for d in split.downloads]
    assert len({d.name for d in downloads}) == len({d.md5 for d in downloads}) == len(downloads)
    assert all(len(d.md5) == 32 for d in downloads)


@pytest.mark.parametrize("folder", ["landscape", "."])
def test_landscape_files_are_found_below_the_root(tmp_path, folder, monkeypatch):
    flat = make_flat(num_jets=20)
    (tmp_path / folder).mkdir(exist_ok=True)
    landscape_frame(flat).to_hdf(tmp_path / folder / "val.h5", key="table", format="table")
    jets = load_dataset("landscape", "val", tmp_path)
    assert_same_jets(jets[["p4", "label"]], flat)
    assert jets.attrs["classes"] == ["qcd", "top"]
    monkeypatch.setenv("PCLOUD_DATA", str(tmp_path))
    assert len(load_dataset("landscape", "val", start=5, stop=8)) == 3


def test_jetclass_files_are_read_in_the_order_of_their_names(tmp_path):
    flat = make_flat(num_jets=30, extras=True)
    branches, label = jetclass_branches(flat)
    (tmp_path / "val_5M").mkdir()
    for i, name in enumerate(("HToBB_120", "TTBar_120", "ZToQQ_120")):
        part = {n: column[10 * i : 10 * i + 10] for n, column in branches.items()}
        write_root(tmp_path / "val_5M" / f"{name}.root", {"tree": part})
    assert [file.stem for file in dataset_files("jetclass", "val", tmp_path)] == [
        "HToBB_120",
        "TTBar_120",
        "ZToQQ_120",
    ]
    np.testing.assert_array_equal(load_dataset("jetclass", "val", tmp_path).label, label)


def test_quark_gluon_files_are_read_by_number(tmp_path):
    flat = make_flat(num_jets=30)
    for i, number in enumerate((18, 19)):
        part = flat.slice(15 * i, 15 * i + 15)
        file = tmp_path / f"QG_jets_{number}.npz"
        np.savez_compressed(file, X=energyflow(part), y=part.jet["label"])
    jets = load_dataset("quark_gluon", "test", tmp_path)
    np.testing.assert_array_equal(jets.label, flat.jet["label"])
    assert jets.attrs["classes"] == ["gluon", "quark"]
    assert dataset_info("quark_gluon").split("train").files[:2] == ("QG_jets.npz", "QG_jets_1.npz")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "landscape",
            r"no train\.h5 in .*landscape: get train\.h5 from .*/2603256 and put it there",
        ),
        (
            "jetclass",
            r"no train_100M/\*\.root in .*: get .*part0\.tar.* and 7 more .*6619768 .*unpacked",
        ),
        ("quark_gluon", r"no QG_jets\.npz in .*: get QG_jets\.npz.* and 13 more .*put them there"),
    ],
)
def test_absent_files_say_where_to_get_them(tmp_path, name, message):
    with pytest.raises(FileNotFoundError, match=message):
        load_dataset(name, "train", tmp_path)


def test_half_of_the_files_are_not_enough(tmp_path):
    np.savez(tmp_path / "QG_jets_18.npz", X=np.zeros((1, 1, 4)))
    with pytest.raises(FileNotFoundError, match="no QG_jets_18"):
        load_dataset("quark_gluon", "test", tmp_path)


def test_a_sample_without_downloads_says_which_file_is_missing(tmp_path):
    mine = DatasetInfo("mine", "", {"train": Split(("a.h5",))}, ("qcd", "top"))
    with pytest.raises(FileNotFoundError, match=r"^no a\.h5 in \S+$"):
        mine.files("train", tmp_path)


def test_wrong_names_get_the_nearest(monkeypatch):
    monkeypatch.delenv("PCLOUD_DATA", raising=False)
    with pytest.raises(
        UnknownNameError, match="no data set named 'lanscape'; did you mean 'landsca"
    ):
        load_dataset("lanscape", "train")
    with pytest.raises(
        UnknownNameError, match="no split named 'tset' in data set 'landscape'; did"
    ):
        load_dataset("landscape", "tset")
    with pytest.raises(InputError, match="set PCLOUD_DATA, or pass root"):
        load_dataset("landscape", "test")
    with pytest.raises(InputError, match="is part of the package and has no files"):
        dataset_files("simulated", "test")


def test_the_embedded_sample_needs_no_folder():
    jets = load_dataset("simulated", "val", start=3, stop=10)
    assert len(jets) == 7
    assert jets.attrs["classes"] == list(dataset_info("simulated").classes)


def test_downloads_are_compared_with_their_checksums(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"jets")
    (tmp_path / "b.h5").write_bytes(b"jetz")
    (tmp_path / "c.h5").write_bytes(b"jets!")
    md5 = hashlib.md5(b"jets", usedforsecurity=False).hexdigest()
    downloads = (
        Download("a.h5", md5, 4),
        Download("b.h5", md5),
        Download("c.h5", md5, 4),
        Download("d.h5", md5),
    )
    info = DatasetInfo("own", "", {"train": Split(("a.h5",), 1, downloads)}, ("x", "y"))
    found = {file.name: is_good for file, is_good in info.verify(tmp_path).items()}
    assert found == {"a.h5": True, "b.h5": False, "c.h5": False}


@pytest.mark.usefixtures("small_sample")
def test_without_a_split_jets_are_those_of_the_training():
    assert len(load_dataset("simulated")) == len(load_dataset("simulated", "train")) == 1200
