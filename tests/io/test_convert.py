"""Conversion of files: row groups, random order, several files, each file by itself."""

from __future__ import annotations

from pathlib import Path

import awkward as ak
import numpy as np
import pyarrow.parquet as pq
import pytest

from pcloud.cli import main
from pcloud.errors import InputError
from pcloud.io import convert, convert_files, read_jets, write_jets
from pcloud.keys import momentum_keys
from tests.training.conftest import make_jets


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files of one class each, whose jets are numbered by ``weight``."""
    folder = tmp_path_factory.mktemp("sources")
    paths = [folder / "a.npz", folder / "b.npz"]
    for i, path in enumerate(paths):
        jets = make_jets(150, seed=i)
        jets["label"] = np.full(150, i)
        jets["number"] = 150 * i + np.arange(150)
        write_jets(jets, path)
    return paths


def group_sizes(path: Path) -> list[int]:
    file = pq.read_metadata(path)
    return [file.row_group(i).num_rows for i in range(file.num_row_groups)]


def test_row_groups_have_the_number_of_jets_that_is_asked_for(
    sources: list[Path], tmp_path: Path
) -> None:
    convert(sources, tmp_path / "out.parquet", row_group=70, chunk_size=60)
    assert group_sizes(tmp_path / "out.parquet") == [70, 70, 70, 70, 20]
    jets = read_jets(tmp_path / "out.parquet")
    assert jets.number.tolist() == list(range(300))
    assert np.array_equal(jets.split_key, momentum_keys(jets))
    with pytest.raises(InputError, match="only Parquet files have row groups"):
        convert(sources, tmp_path / "out.npz", row_group=70)


@pytest.mark.parametrize("chunk_size", [7, 1000])
def test_shuffled_jets_are_the_same_in_random_order(
    sources: list[Path], tmp_path: Path, chunk_size: int
) -> None:
    plain = read_jets(sources)
    convert(sources, tmp_path / "out.parquet", shuffle=True, chunk_size=chunk_size, seed=1)
    jets = read_jets(tmp_path / "out.parquet")
    assert sorted(jets.number) == list(range(300))
    assert ak.array_equal(jets.p4.px, plain.p4.px[jets.number])
    assert jets.label.tolist() == plain.label[jets.number].tolist()
    assert jets.attrs["classes"] == ["a", "b"]
    # of each half of the file, about a half is of each class: 150 +- 6
    assert abs(int(jets.label[:150].to_numpy().sum()) - 75) < 25
    assert abs(np.corrcoef(jets.number, np.arange(300))[0, 1]) < 0.2
    convert(sources, tmp_path / "again.parquet", shuffle=True, chunk_size=chunk_size, seed=1)
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "out.parquet").read_bytes()
    convert(sources, tmp_path / "other.parquet", shuffle=True, chunk_size=chunk_size, seed=2)
    assert read_jets(tmp_path / "other.parquet").number.tolist() != jets.number.tolist()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_jets_are_divided_into_equal_files(sources: list[Path], tmp_path: Path) -> None:
    words = [*map(str, sources), str(tmp_path / "parts"), "--files", "7", "--shuffle", "--quiet"]
    assert main(["convert", *words]) == 0
    files = sorted((tmp_path / "parts").iterdir())
    assert [file.name for file in files] == [f"part-{i:03d}.parquet" for i in range(1, 8)]
    assert {pq.read_metadata(file).num_rows for file in files} == {42, 43}
    assert sorted(read_jets(files).number) == list(range(300))


def test_each_file_is_converted_by_itself_unless_it_was(
    sources: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["convert", *map(str, sources), str(tmp_path / "out"), "--each", "--row-group", "50"]
    assert main(words) == 0
    files = sorted((tmp_path / "out").iterdir())
    assert [file.name for file in files] == ["a.parquet", "b.parquet"]
    assert group_sizes(files[0]) == [50, 50, 50]
    assert read_jets(files).number.tolist() == list(range(300))
    before = files[0].stat().st_mtime_ns
    files[1].unlink()
    assert main(words) == 0
    assert "300 jets in 2 files, 1 done before" in capsys.readouterr().out
    assert files[0].stat().st_mtime_ns == before
    assert files[1].exists()
    with pytest.raises(FileExistsError, match=r"a.parquet: exists already, from another file or"):
        convert_files(sources, tmp_path / "out", row_group=60)
    convert_files(sources, tmp_path / "out", row_group=60, overwrite=True)
    assert group_sizes(files[0]) == [60, 60, 30]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--each", "--shuffle"], "--each converts each file by itself, without --shuffle"),
        (["--scheduler", "local:1"], "--scheduler needs --each"),
    ],
)
def test_options_that_exclude_each_other_are_refused(
    sources: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    assert main(["convert", str(sources[0]), str(tmp_path), *words]) == 2
    assert said in capsys.readouterr().err
