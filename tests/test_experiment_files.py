"""Files of experiments, from the file by its schema to a report, and scores back to the events."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import uproot

from pcloud import Run, read_jets
from pcloud.cli import main
from pcloud.yaml_files import read_yaml
from tests import experiment_files
from tests.conftest import REPOSITORY

NUM_JETS = 480
SCHEMAS = REPOSITORY / "examples" / "schemas"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[Path]]:
    """Files of one kind."""

    def write(kind: str) -> list[Path]:
        folder = tmp_path_factory.mktemp(kind)
        return getattr(experiment_files, f"write_{kind}")(folder, NUM_JETS)

    return write


def command(*arguments: object) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes with few jets, and merged or dropped labels
        assert main([str(argument) for argument in arguments]) == 0


def tree(path: Path) -> ak.Array:
    """All columns of a file as one array."""
    if path.suffix == ".parquet":
        return ak.from_parquet(path)
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            return ak.Array({name: file["jets"][name] for name in file["jets"].dtype.names})
    with uproot.open(path) as file:
        (name,) = {key.partition(";")[0] for key in file}
        return file[name].arrays()


FEATURES: dict[str, tuple[str, ...]] = {
    "weaver": ("full",),
    "events": ("kin", "charge"),
    "pfnano": ("kin", "charge", "d0"),
    "ftag": ("kin", "d0", "z0_sin_theta", "d0_err"),
    "two_collections": ("kin", "charge", "d0"),
    "eight_classes": ("kinpid", "jet_sdmass"),
}


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("kind", FEATURES)
def test_a_file_becomes_a_report_and_its_scores_go_back(
    kind: str, written: Callable[[str], list[Path]], tmp_path: Path
) -> None:
    files = written(kind)
    schema = SCHEMAS / f"{kind}.yaml"
    run_folder = tmp_path / "run"
    trained = files[:1] if kind == "events" else files
    command(
        *("train", "--data", *trained, "--schema", schema, "--features", *FEATURES[kind]),
        *("--model", "pfn", "--epochs", 1, "--batch-size", 64),
        *("--out", run_folder, "--test-fraction", 0.3),
    )
    command("evaluate", run_folder, "--bootstrap", 0)
    command("report", run_folder)
    page = (run_folder / "report.html").read_text("utf-8")
    run = Run(run_folder)
    assert all(name in page for name in run.classes)
    command("predict", run_folder, *files, "-o", tmp_path / "scores")
    total = 0
    for file in files:
        table = pq.read_table(tmp_path / "scores" / f"{file.stem}.parquet")
        total += len(table)
        check_rows(run, file, read_yaml(schema), table)
    assert total == NUM_JETS * (2 if kind == "events" else 1)


def check_rows(run: Run, file: Path, schema: dict[str, Any], table: Any) -> None:
    """Compare each row of scores with the jet to which it says that it belongs, bit by bit."""
    source = tree(file)
    entry = table["entry"].to_numpy()
    event = schema.get("event")
    for name in [event] if isinstance(event, str) else (event or {}).values():
        column = name.rpartition("/")[2]
        expected = ak.to_numpy(source[column])[entry]
        stored = table["event" if name == event else column].to_numpy()
        if isinstance(event, str) or column == event.get(column):
            assert stored.dtype == expected.dtype
            np.testing.assert_array_equal(stored, expected)
            assert stored.max() > 2**53 or column == "run"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        jets = read_jets(file, schema, entries=True)
    np.testing.assert_array_equal(jets.entry, entry)
    if "index" in table.column_names:  # jets of events: nth jet of its event
        index = table["index"].to_numpy()
        assert len(set(zip(entry.tolist(), index.tolist(), strict=True))) == len(entry)
        name = "FatJet_pt" if "FatJet_pt" in source.fields else "jet_pt"
        found = ak.to_numpy(source[name][entry, index])
        np.testing.assert_allclose(jets.jet_p4.pt, found, rtol=1e-5)
    else:
        assert sorted(entry.tolist()) == list(range(len(source)))
    scores = np.stack([table[f"score_{name}"].to_numpy() for name in run.classes], axis=1)
    np.testing.assert_array_equal(scores, run.predict(jets))
    np.testing.assert_array_equal(table["label"], jets.label)
    np.testing.assert_array_equal(table["weight"].to_numpy(), ak.to_numpy(jets.weight))


def test_every_schema_of_a_file_kind_is_tested() -> None:
    shown = {path.stem for path in SCHEMAS.glob("*.yaml")} - {"nanoaod_events", "nanoaod_leptons"}
    assert shown == set(FEATURES)
