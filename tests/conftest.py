"""Fixtures shared by all tests."""

from __future__ import annotations

import contextlib
import importlib
import os
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
REFERENCE = Path(os.environ.get("PCLOUD_REFERENCE_DATA", REPOSITORY / ".." / "shared" / "data"))

PLAIN = bool(os.environ.get("PCLOUD_PLAIN"))  # all layers by their plain formulas


@pytest.fixture(scope="session", autouse=PLAIN)
def _plain_formulas() -> Iterator[None]:
    """Take no fast pass in any test, to show that the plain formulas can do all that they do."""
    importlib.import_module("pcloud.models")  # with every layer that has a fast pass
    gated = [m for m in sys.modules.values() if "kernel_allowed" in vars(m)]
    with pytest.MonkeyPatch.context() as patch:
        for module in gated:
            if module.__name__.startswith("pcloud."):
                patch.setattr(module, "kernel_allowed", lambda *tensors: False)
        yield


@pytest.fixture(scope="session", autouse=True)
def state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folder in which models that tests train with are remembered, apart from the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("state")
        patch.setenv("PCLOUD_STATE", str(folder))
        yield folder


@contextlib.contextmanager
def only_transformations(*names: str) -> Iterator[None]:
    """Leave only some transformations of jets to the studies, and put all back in their order."""
    registry = importlib.import_module("pcloud.evaluation.robustness_transformations")
    every = dict(registry.TRANSFORMATIONS)
    for name in every.keys() - set(names):
        del registry.TRANSFORMATIONS[name]
    try:
        yield
    finally:
        registry.TRANSFORMATIONS.clear()
        registry.TRANSFORMATIONS.update(every)


@pytest.fixture
def fast_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip tests of the fast passes themselves where there are none, and take them for small batches."""
    if PLAIN:
        pytest.skip("tests fast passes, which PCLOUD_PLAIN switches off")
    monkeypatch.setattr("pcloud.nn.graph.edge_conv._MIN_TRAINED_BYTES", 0)


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """Folder of real jets and official weights, which the project does not ship."""
    if not REFERENCE.is_dir():
        pytest.skip(f"no reference data at {REFERENCE}: set PCLOUD_REFERENCE_DATA")
    return REFERENCE.resolve()


@pytest.fixture(scope="session")
def few_jets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder like that of the embedded sample, with 1200, 400 and 600 of its jets."""
    from pcloud.datasets import load_dataset
    from pcloud.datasets.compact import write_compact
    from pcloud.io.jets import FlatJets

    folder = tmp_path_factory.mktemp("simulated")
    jets, start = load_dataset("simulated", "test"), 0
    for split, number in (("train", 1200), ("val", 400), ("test", 600)):
        part = FlatJets.from_awkward(jets[start : start + number])
        write_compact(part, folder / f"{split}.parquet", {})
        start += number
    return folder


@pytest.fixture
def small_sample(few_jets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the data set ``simulated`` be small."""
    monkeypatch.setattr("pcloud.datasets.simulated.FOLDER", few_jets)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the figures of reports and show their captions, but do not draw them.

    Drawing takes nine tenths of the time of a report. For tests that ask for its words.
    """
    from matplotlib.figure import Figure

    from pcloud.report.figures import FigureFolder
    from pcloud.text import for_html

    def add(folder: FigureFolder, name: str, figure: Figure, caption: str, _: str = "") -> str:
        assert isinstance(figure, Figure)
        folder.path.mkdir(parents=True, exist_ok=True)
        (folder.path / f"{name}.png").write_bytes(b"")
        return f"<figure><figcaption>{for_html(caption)}</figcaption></figure>"

    monkeypatch.setattr(FigureFolder, "add", add)


@pytest.fixture
def run_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., str]]:
    """Run a script of the repository in an empty folder, in this process; what it prints.

    Models and kinds of data that it registers are gone after the test.
    """
    import matplotlib.pyplot as plt
    import torch

    from pcloud.modality import _REGISTERED as MODALITIES
    from pcloud.modality import list_modalities
    from pcloud.models.registry import _MODELS

    list_modalities()  # complete
    threads = torch.get_num_threads()
    kept = [(registry, dict(registry)) for registry in (MODALITIES, _MODELS)]

    def run(script: str, *arguments: str, code: int = 0) -> str:
        path = REPOSITORY / script
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(path.parent)
        monkeypatch.setattr(sys, "argv", [str(path), *arguments])
        returned: object = 0
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as end:
            returned = end.code
        if isinstance(returned, str):
            sys.stderr.write(returned)
            returned = 1
        said = "".join(capsys.readouterr())
        assert (returned or 0) == code, said
        return said

    yield run
    for registry, before in kept:
        registry.clear()
        registry.update(before)
    plt.close("all")
    torch.set_num_threads(threads)
