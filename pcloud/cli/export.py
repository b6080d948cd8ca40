"""``pcloud export``: write a run as a file for other programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pcloud.cli.command import Argument, Command, Flag, Options, Switch
from pcloud.cli.options import CheckpointOption, OverwriteOption, RunArgument
from pcloud.cli.output import print_rows, say, suggest
from pcloud.training.config import NumJets


@dataclass(frozen=True, kw_only=True)
class FileOptions(OverwriteOption, RunArgument):
    """Export."""

    file: Argument
    """File to write: tagger.onnx, or tagger.pt2 for C++ programs with libtorch."""
    padded: Switch = False
    """Batches of padded jets with masks, in the place of one jet."""
    ragged: Switch = False
    """Batches of jets without padding: the particles of all jets, and the offsets of the jets."""
    max_particles: NumJets | None = None
    """Largest number of particles of a jet; by default any number."""
    on_long_jet: Literal["drop", "refuse"] = "drop"
    """Jets of more particles: drop removes the softest, with refuse the outputs are NaN."""
    calibrated: Switch = False
    """Write calibrated probabilities; needs pcloud calibrate first."""
    form: Literal["plain", "cms", "atlas"] = "plain"
    """Inputs: momenta and columns by name, or those of CMS (with preprocess.json) or ATLAS."""
    dtype: Literal["float32", "float16"] = "float32"
    """Precision of the linear maps; features and products of momenta keep theirs."""
    int8: Annotated[Literal["dynamic", "static"] | None, Flag(alone="dynamic")] = None
    """Linear maps with weights and inputs of 8 bits. The scale of the inputs is that of each call
    (dynamic, also without a value), or that of the validation jets (static)."""
    triton: str | None = None
    """Model repository of a Triton server, into which the file is copied with its configuration."""
    jets: NumJets = 1000
    """Number of test jets on which the file is compared with PyTorch."""


def execute(options: Options) -> None:
    """Write the file and print the differences from PyTorch."""
    from pcloud.export.triton import check_repository, write_repository
    from pcloud.run import Run

    run = Run(options["run"], trust_code=options["trust_code"])
    repository = options["triton"]
    if repository is not None:
        check_repository(Path(options["file"]), repository, overwrite=options["overwrite"])
    names = (
        *(
            "padded",
            "ragged",
            "max_particles",
            "on_long_jet",
            "calibrated",
            "checkpoint",
            "form",
            "jets",
        ),
        *("dtype", "int8"),
    )
    written = run.export(
        options["file"],
        overwrite=options["overwrite"],
        **{name: options[name] for name in names},
    )
    print_rows(written.rows())
    if not written.metadata["metrics"]:
        say(f"without metrics: pcloud evaluate {run.path} measures them")
    say(f"written to {written.path}")
    if repository is not None:
        replace = {"overwrite": options["overwrite"]}
        model = write_repository(written.path, written.metadata, repository, **replace)
        say(f"written to {model}")
    suggest("check", written.path, "--run", run.path)


COMMAND = Command(
    "export",
    "Write a run as an ONNX file, from momenta to probabilities.",
    execute,
    (FileOptions, CheckpointOption),
)
