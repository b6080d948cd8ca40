"""Packages of AOTInductor, in Python and in a C++ program."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from pcloud.errors import InputError
from pcloud.export.package import load_package
from pcloud.training.run_sample import load_run_sample
from tests.conftest import REPOSITORY
from tests.export.conftest import PFN, trained
from tests.training.conftest import make_jets

EXAMPLE = REPOSITORY / "examples" / "cpp"


def fake_package(path: Path, **entries: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        content = {f"pcloud.{name}": json.dumps(value) for name, value in entries.items()}
        archive.writestr("tagger/data/aotinductor/model/a_metadata.json", json.dumps(content))
    return path


def test_packages_for_other_machines_are_refused_before_they_are_loaded(tmp_path):
    here = {"torch": str(torch.__version__), "cpu": torch.backends.cpu.get_cpu_capability()}
    other = fake_package(tmp_path / "a.pt2", **here | {"cpu": "AVX1024"})
    with pytest.raises(InputError, match="was made for a processor with AVX1024"):
        load_package(other)
    other = fake_package(tmp_path / "b.pt2", **here | {"torch": "1.0"})
    with pytest.raises(InputError, match=r"was made for PyTorch 1\.0"):
        load_package(other)
    (tmp_path / "c.pt2").write_bytes(b"no archive")
    with pytest.raises(InputError, match="is not a package"):
        load_package(tmp_path / "c.pt2")
    with pytest.raises(FileNotFoundError):
        load_package(tmp_path / "absent.pt2")


def test_without_a_compiler_the_error_says_what_to_do(run, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(InputError, match=r"install g\+\+, or export to ONNX"):
        run.export(tmp_path / "tagger.pt2")


@pytest.mark.once
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler
def test_a_program_in_cpp_prints_the_probabilities_of_python(tmp_path):
    for tool in ("g++", "cmake"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    if torch.version.cuda is not None:
        pytest.skip("CMake finds a CUDA build of libtorch only beside the toolkit of CUDA")
    run = trained(tmp_path, make_jets(200), "pfn", PFN)
    file = tmp_path / "tagger.pt2"
    written = run.export(file, jets=50)
    assert written.parity.difference < 1e-5
    package = load_package(file)
    assert package.metadata["classes"] == ["a", "b"]
    jets = load_run_sample(run, "test")[:20]
    expected = run.predict(jets)

    build = tmp_path / "build"
    prefix = f"-DCMAKE_PREFIX_PATH={torch.utils.cmake_prefix_path}"
    for command in (
        ["cmake", "-S", str(EXAMPLE), "-B", str(build), prefix],
        ["cmake", "--build", str(build)],
    ):
        subprocess.run(command, check=True, capture_output=True)
    lines = []
    for jet in jets:
        p4 = np.stack([np.asarray(jet.p4[name]) for name in ("E", "px", "py", "pz")], axis=-1)
        lines.append(" ".join(f"{value:.9g}" for value in p4.ravel()))
    said = subprocess.run(
        [str(build / "tag"), str(file)], input="\n".join(lines) + "\n", check=True,
        capture_output=True, text=True,
    ).stdout  # fmt: skip
    found = np.array([[float(number) for number in line.split()] for line in said.splitlines()])
    np.testing.assert_allclose(found, expected, atol=1e-6)
