"""Every writer on a full disk: one line, and no half-written file."""

from __future__ import annotations

import contextlib
import signal
import sys
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from pcloud.errors import CannotWriteError
from pcloud.evaluation.figures import save_figure
from pcloud.evaluation.scores import ScoresWriter
from pcloud.io import convert, write_jets
from pcloud.run_files import write_json
from pcloud.simulate.workers import PartFiles
from pcloud.training.checkpoint import write_checkpoint
from tests.training.conftest import make_jets

resource = pytest.importorskip("resource")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs limits of file sizes")

LIMIT = 2_000  # bytes


@contextlib.contextmanager
def full_disk():
    """Let no file be larger than `LIMIT`, which stands for a full disk."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


JETS = make_jets(300)


def scores(path: Path) -> None:
    with ScoresWriter(path / "scores.parquet", ["a", "b"]) as file:
        file.write(np.random.default_rng(0).random((5000, 2)), None)


def closed_scores(path: Path) -> None:
    """Scores of which only the end of the file does not fit."""
    classes = [f"class_{i}" for i in range(300)]
    with ScoresWriter(path / "scores.parquet", classes) as file:
        file.write(np.empty((0, 300)), None)


def figure(path: Path) -> None:
    drawing = Figure()
    drawing.add_subplot().plot(np.random.default_rng(0).random(1000))
    save_figure(drawing, path / "figure", ["png", "pdf"])


def parts(path: Path) -> None:
    from pcloud.io.jets import FlatJets

    folder = object.__new__(PartFiles)
    folder.folder = path
    folder["top", 0] = FlatJets.from_awkward(ak.without_field(JETS, "label"))


WRITERS = {
    "checkpoint": lambda path: write_checkpoint({"a": torch.rand(5000)}, path / "last.ckpt"),
    "json": lambda path: write_json(path / "a.json", list(range(5000))),
    "scores": scores,
    "closed scores": closed_scores,
    "figure": figure,
    "parts": parts,
    "parquet": lambda path: write_jets(JETS, path / "jets.parquet"),
    "npz": lambda path: write_jets(JETS, path / "jets.npz"),
    "h5": lambda path: write_jets(JETS, path / "jets.h5"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_one_line_and_leaves_no_file(name, tmp_path):
    with pytest.raises(CannotWriteError) as caught, full_disk():
        WRITERS[name](tmp_path)
    assert "\n" not in str(caught.value)
    assert "File too large" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_an_earlier_file_stays(tmp_path):
    write_jets(JETS[:2], tmp_path / "a.npz")
    write_jets(JETS, tmp_path / "b.parquet")
    content = (tmp_path / "a.npz").read_bytes()
    with pytest.raises(CannotWriteError), full_disk():
        convert(str(tmp_path / "b.parquet"), tmp_path / "a.npz", overwrite=True)
    assert (tmp_path / "a.npz").read_bytes() == content
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz", "b.parquet"]
