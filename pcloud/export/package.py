"""Export to a package of AOTInductor, which C++ programs run with libtorch alone."""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pcloud.errors import InputError
from pcloud.export.packages import quiet_exporter
from pcloud.export.parity import Parity, compare
from pcloud.export.record import METADATA_PREFIX, reason_of
from pcloud.export.source import Source
from pcloud.nn.graph.distances import distances_by_products
from pcloud.run_files import atomic_path

__all__ = ["Package", "load_package", "write_package"]

_COMPILERS = ("g++", "clang++", "c++", "cl")


class Package:
    """Compiled graph.

    Parameters
    ----------
    path : path
        File.

    Attributes
    ----------
    metadata : dict
        Description of the network in the file.
    outputs : list of str
        Names of the outputs.
    """

    def __init__(self, path: str | Path) -> None:
        from torch._inductor import aoti_load_package

        self._run = aoti_load_package(str(path))
        stored = self._run.get_metadata()
        self.metadata = {
            name.removeprefix(METADATA_PREFIX): json.loads(value)
            for name, value in stored.items()
            if name.startswith(METADATA_PREFIX)
        }
        self.outputs: list[str] = self.metadata["outputs"]
        self._inputs = [entry["name"] for entry in self.metadata["inputs"]]

    def __call__(self, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name, from inputs by name."""
        given = [torch.from_numpy(np.ascontiguousarray(feed[name])) for name in self._inputs]
        with torch.no_grad():
            found = self._run(*given)
        return {name: v.numpy() for name, v in zip(self.outputs, found, strict=True)}


def check_compiler() -> None:
    """Check that there is a C++ compiler.

    Raises
    ------
    InputError
        If there is none.
    """
    if not any(map(shutil.which, _COMPILERS)):
        raise InputError(
            "a .pt2 package is compiled, and there is no C++ compiler: install g++, or export to "
            "ONNX (.onnx)"
        )


def write_package(
    source: Source, path: Path, labels: np.ndarray | None
) -> tuple[Parity, dict[str, Any]]:
    """Compile the graph of a source, compare it with the run, and write it.

    Parameters
    ----------
    source : Source
        Run with its inputs and jets to compare with.
    path : Path
        File to write.
    labels : array of int, optional
        Classes of the jets.

    Returns
    -------
    Parity
        Differences from PyTorch.
    dict
        Metadata of the file.

    Raises
    ------
    InputError
        If the graph cannot be compiled, or differs from the run.
    """
    shapes = source.shapes().values()
    free = [
        {i: torch.export.Dim.DYNAMIC for i, axis in enumerate(shape) if isinstance(axis, str)}
        for shape in shapes
    ]
    metadata = source.metadata() | {
        "torch": str(torch.__version__),
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }
    entries = {f"{METADATA_PREFIX}{name}": json.dumps(value) for name, value in metadata.items()}
    with tempfile.TemporaryDirectory() as folder:
        compiled = Path(folder) / "tagger.pt2"
        try:
            with quiet_exporter(), distances_by_products(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                program = torch.export.export(
                    source.graph(), tuple(source.example()), dynamic_shapes=(tuple(free),)
                )
                torch._inductor.aoti_compile_and_package(
                    program,
                    package_path=str(compiled),
                    inductor_configs={"aot_inductor.metadata": entries},
                )
        except Exception as error:  # of any part of torch, and of a network of the user
            raise InputError(f"this network cannot be compiled: {reason_of(error)}") from error
        package = Package(compiled)
        parity = compare(
            package,
            source.reference(),
            source.batches(),
            source.num_synthetic,
            labels=labels,
        )
        parity.check(needs_all=not source.searches_features)
        with atomic_path(path) as new:
            shutil.copyfile(compiled, new)
    return parity, metadata


def load_package(path: str | Path) -> Package:
    """Package of a file, after checking that this machine can run it.

    A package has instructions of the processor and calls of the version of PyTorch that it was made
    with. Elsewhere it could end the process by an illegal instruction.

    Raises
    ------
    InputError
        If the version of PyTorch or the instruction set is another.
    """
    import zipfile

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith("_metadata.json")]
            stored = json.loads(archive.read(names[0])) if names else {}
    except (zipfile.BadZipFile, ValueError) as error:
        raise InputError(f"{path} is not a package of pcloud export") from error
    made = {n: str(stored.get(f"{METADATA_PREFIX}{n}", "")) for n in ("torch", "cpu")}
    here = {
        "torch": json.dumps(str(torch.__version__)),
        "cpu": json.dumps(torch.backends.cpu.get_cpu_capability()),
    }
    for name, what in (("torch", "PyTorch"), ("cpu", "a processor with")):
        if not made[name]:
            raise InputError(f"{path} is not a package of pcloud export")
        if made[name] != here[name]:
            raise InputError(
                f"{path} was made for {what} {json.loads(made[name])}, and this is "
                f"{json.loads(here[name])}: export it again here"
            )
    return Package(path)
