"""Model repository of a Triton server, from an exported file."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pcloud.errors import InputError
from pcloud.export.graph import PROBABILITIES
from pcloud.run_files import make_folder, write_text

__all__ = ["triton_config", "write_repository"]

CONFIG = "config.pbtxt"
LABELS = "labels.txt"

_MAX_BATCH = 1024  # jets
_QUEUE_MICROSECONDS = 100  # for which a request waits for others
_TYPES = {
    "float32": "TYPE_FP32",
    "float64": "TYPE_FP64",
    "bool": "TYPE_BOOL",
    "int64": "TYPE_INT64",
}


def write_repository(
    file: Path, metadata: dict[str, Any], folder: str | Path, *, overwrite: bool = False
) -> Path:
    """Write the folder of a model: its configuration, the names of the classes, and version 1.

    Parameters
    ----------
    file : Path
        Exported ONNX file, whose name is that of the model.
    metadata : dict
        Metadata of the file.
    folder : path
        Model repository, made if it does not exist.
    overwrite : bool
        Replace a model of this name.

    Returns
    -------
    Path
        Folder of the model.

    Raises
    ------
    FileExistsError
        If there is a model of this name.
    """
    model = Path(folder) / file.stem
    check_repository(file, folder, overwrite=overwrite)
    make_folder(model / "1")
    shutil.copyfile(file, model / "1" / "model.onnx")
    if metadata["classes"]:
        write_text(model / LABELS, "".join(f"{name}\n" for name in metadata["classes"]))
    write_text(model / CONFIG, triton_config(file.stem, metadata))
    return model


def check_repository(file: Path, folder: str | Path, *, overwrite: bool) -> None:
    """Check before long work that the folder of a model can be written.

    Raises
    ------
    InputError
        If the file is not an ONNX file.
    FileExistsError
        If there is a model of this name.
    """
    if file.suffix != ".onnx":
        raise InputError(f"a Triton server runs ONNX files: {file} must end in .onnx")
    model = Path(folder) / file.stem
    if model.exists() and not overwrite:
        raise FileExistsError(f"{model}: exists already; overwrite=True (--overwrite) replaces it")


def triton_config(name: str, metadata: dict[str, Any]) -> str:
    """Content of ``config.pbtxt``.

    Padded batches with a largest number of particles are collected from several requests: all
    requests have that number of slots. Other forms have free axes, and each request is computed
    alone.

    Parameters
    ----------
    name : str
        Name of the model.
    metadata : dict
        Metadata of the exported file.
    """
    longest = metadata.get("max_particles")
    batched = metadata.get("form") == "padded" and longest is not None
    sizes: dict[str, int] = {"num_particles": int(longest)} if longest and batched else {}
    lines = [
        f'name: "{name}"',
        'platform: "onnxruntime_onnx"',
        f"max_batch_size: {_MAX_BATCH if batched else 0}",
    ]
    for entry in metadata["inputs"]:
        shape = [sizes.get(n, -1) if isinstance(n, str) else n for n in entry["shape"]]
        dims = shape[1:] if batched else shape
        lines += _tensor("input", entry["name"], _TYPES[entry["type"]], dims)
    for output in metadata["outputs"]:
        dims = [len(metadata["classes"])] if output == PROBABILITIES else []
        if metadata.get("form") != "one jet" and not batched:
            dims = [-1, *dims]
        labels = LABELS if output == PROBABILITIES else ""
        lines += _tensor("output", output, "TYPE_FP32", dims, labels)
    if batched:
        lines += [
            "dynamic_batching {",
            f"  max_queue_delay_microseconds: {_QUEUE_MICROSECONDS}",
            "}",
        ]
    return "\n".join(lines) + "\n"


def _tensor(
    kind: str, name: str, type_name: str, dims: Sequence[int], labels: str = ""
) -> list[str]:
    """Lines of an input or output; one number per jet has the dimension 1 in requests."""
    shown = ", ".join(map(str, dims or [1]))
    lines = [f"{kind} {{", f'  name: "{name}"', f"  data_type: {type_name}", f"  dims: [ {shown} ]"]
    if not dims:
        lines.append("  reshape { shape: [ ] }")
    if labels:
        lines.append(f'  label_filename: "{labels}"')
    return [*lines, "}"]
