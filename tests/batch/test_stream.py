"""Streams of jets from the row groups of Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import pcloud
from pcloud.batch import JetDataset, JetStream, StreamLoader
from pcloud.batch.stream import Membership, RowGroup, RowGroupReader, key_sum
from pcloud.errors import InputError
from pcloud.features import feature_set
from pcloud.io.read import JetFiles
from pcloud.keys import keys_of
from tests.training.conftest import make_jets

SIZES = (30, 211, 97, 400)  # of the files, awkward for shards


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files of one class each, with row groups of about 70 jets; ``weight`` numbers the jets."""
    folder = tmp_path_factory.mktemp("stream")
    paths = []
    for i, size in enumerate(SIZES):
        jets = make_jets(3 * size, seed=i)
        jets = jets[np.flatnonzero(np.asarray(jets.label) == i % 2)[:size]]
        number = 1.0 + sum(SIZES[:i]) + np.arange(len(jets))
        jets["weight"] = number
        paths.append(folder / f"{i}.parquet")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("pcloud.io.parquet.ROW_GROUP", 600)
            pcloud.write_jets(jets, paths[-1])
    return paths


def make_stream(files: list[Path], fractions: dict[str, float] | None = None) -> JetStream:
    open_files = partial(JetFiles, [str(f) for f in files], keys=True, on_bad_jet="error")
    reader = RowGroupReader(open_files)
    member = Membership("train", fractions or {"train": 1.0}, 0)
    groups, labels, weights = [], [], []
    for file, start, stop in reader.files.groups():
        jets = reader.files.to_awkward(reader.read(file, start, stop)[0])
        rows = member(keys_of(jets))
        groups.append(RowGroup(file, start, stop, int(rows.sum()), key_sum(keys_of(jets))))
        labels.append(np.asarray(jets.label)[rows])
        weights.append(np.asarray(jets.weight)[rows])
    return JetStream(
        reader,
        groups,
        member,
        feature_set("kin").for_jets(stored=False),
        torch.from_numpy(np.concatenate(labels)),
        torch.from_numpy(np.concatenate(weights).astype(np.float32)),
    )


def numbers(batches: Iterator) -> list[list[int]]:
    return [batch.weight.int().tolist() for batch in batches]


@pytest.mark.parametrize(("world", "workers"), [(1, 1), (1, 3), (2, 1), (3, 2)])
def test_every_jet_is_in_one_shard_once_per_epoch(
    files: list[Path], world: int, workers: int
) -> None:
    stream = make_stream(files)
    found, lengths = [], set()
    for rank in range(world):
        loader = StreamLoader(stream, 50, shuffle=True, drop_last=True, rank=rank, world=world)
        shards = [numbers(loader.shard(worker, workers, 0)) for worker in range(workers)]
        lengths.add(sum(map(len, shards)))
        found += [jet for shard in shards for batch in shard for jet in batch]
    assert sorted(found) == list(range(1, sum(SIZES) + 1))
    assert lengths == {sum(SIZES) // 50}  # ranks have as many steps


def test_batches_are_those_of_a_data_set_of_the_same_jets(files: list[Path]) -> None:
    stream = make_stream(files)
    whole = JetDataset(pcloud.read_jets(files), "kin")
    for batch in StreamLoader(stream, 100, shuffle=True, seed=3):
        jets = whole[batch.weight.long() - 1]
        for name in ("x", "p4", "y", "ptr", "weight"):
            assert torch.equal(batch[name], getattr(jets, name)), name


def test_epochs_and_seeds_have_their_own_order(files: list[Path]) -> None:
    stream = make_stream(files)
    loader = StreamLoader(stream, 100, shuffle=True, seed=1)
    first, second = numbers(loader), numbers(loader)
    assert first != second
    loader.set_epoch(0)
    assert numbers(loader) == first
    assert numbers(StreamLoader(stream, 100, shuffle=True, seed=2)) != first


def test_without_shuffling_jets_come_in_the_order_of_the_files(files: list[Path]) -> None:
    batches = numbers(StreamLoader(make_stream(files), 64))
    assert [jet for batch in batches for jet in batch] == list(range(1, sum(SIZES) + 1))


@pytest.mark.parametrize("block", [1, 8192])
def test_a_stream_continues_after_any_batch(
    files: list[Path], monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr("pcloud.batch.stream_loader._BLOCK_JETS", block)
    monkeypatch.setattr("pcloud.batch.stream_loader._WINDOW_JETS", 300)
    stream = make_stream(files)
    loader = StreamLoader(stream, 60, shuffle=True, drop_last=True)
    whole = numbers(loader)
    for first in range(1, len(whole), 4):
        other = StreamLoader(stream, 60, shuffle=True, drop_last=True)
        other.load_state_dict({"epoch": 0, "next": first})
        assert numbers(other) == whole[first:]


def test_worker_processes_read_what_this_one_would_and_continue(files: list[Path]) -> None:
    stream = make_stream(files)
    loader = StreamLoader(stream, 60, shuffle=True, drop_last=True, workers=2)
    loader.load_state_dict({"epoch": 0, "next": 3})
    rest = numbers(loader)
    loader.set_epoch(0)
    shards = [numbers(loader.shard(worker, 2, 0)) for worker in range(2)]
    whole = [shards[i % 2][i // 2] for i in range(sum(map(len, shards)))]
    assert rest == whole[3:]


def test_jets_of_other_splits_are_left_out(files: list[Path]) -> None:
    stream = make_stream(files, {"train": 0.7, "val": 0.3})
    found = [jet for batch in numbers(StreamLoader(stream, 50, shuffle=True)) for jet in batch]
    jets = pcloud.read_jets(files)
    member = np.asarray(jets.weight)[stream.member(keys_of(jets))]
    assert sorted(found) == sorted(member.astype(int).tolist())
    assert 0.6 < len(found) / sum(SIZES) < 0.8


@pytest.mark.parametrize("limit", [64, 2])
def test_class_fractions_scatter_as_in_a_permutation_of_all_jets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr("pcloud.batch.stream_loader._MAX_SOURCES", limit)
    groups, labels = [], []
    for file in range(10):  # of one class each, and of sizes from 3,000 to 30,000
        size = 3_000 * (file + 1)
        groups += [RowGroup(file, start, start + 1000, 1000, 0) for start in range(0, size, 1000)]
        labels.append(np.full(size, file % 2))
    stream = JetStream(
        None,  # type: ignore[arg-type]
        groups,
        Membership("train", {"train": 1.0}, 0),
        feature_set("kin"),
        torch.from_numpy(np.concatenate(labels)),
    )
    loader = StreamLoader(stream, 512, shuffle=True, drop_last=True)
    monkeypatch.setattr("pcloud.batch.stream_loader.JetDataset.concatenate", list)
    taken: list[float] = []

    def take(part: object, number: int) -> list[tuple[int, int]]:
        source = part._windows[0].pieces[0][0]  # type: ignore[attr-defined]
        return [(groups[source].file % 2, number)]

    def collate(block: list[tuple[int, int]], order: torch.Tensor) -> int:
        classes = np.repeat([c for c, _ in block], [n for _, n in block])
        taken.append(classes[order.numpy()].mean())
        return 0

    monkeypatch.setattr("pcloud.batch.stream_loader._Part.take", take)
    monkeypatch.setattr("pcloud.batch.stream_loader.collate", collate)
    for _ in range(4):
        list(loader)
    fraction = np.concatenate(labels).mean()
    spread = np.std(np.array(taken) - fraction) / np.sqrt(fraction * (1 - fraction) / 512)
    assert len(taken) == 4 * (165_000 // 512)
    assert 0.93 < spread < 1.07


def test_a_file_that_changes_is_an_input_error(files: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "jets.parquet"
    path.write_bytes(files[0].read_bytes())
    stream = make_stream([path])
    stream.reader._readers.clear()
    stream.reader._files = None
    pcloud.write_jets(pcloud.read_jets(files[3])[: SIZES[0]], path, overwrite=True)
    with pytest.raises(InputError, match=r"jets.parquet: rows 0 to \d+ "):
        next(iter(StreamLoader(stream, 10, shuffle=True)))
