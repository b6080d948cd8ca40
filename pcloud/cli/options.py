"""Options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pcloud.cli.command import Argument, Flag, Options, Switch
from pcloud.training.config import BatchSize, NumJets, read_schema, with_labels

if TYPE_CHECKING:
    from pcloud.run import Run


@dataclass(frozen=True, kw_only=True)
class RunArgument:
    """Run."""

    run: Argument
    """Folder of the run."""


@dataclass(frozen=True, kw_only=True)
class TrustOption:
    """Code."""

    trust_code: Switch = False
    """Run Python code that a run folder, checkpoint or configuration names as its model, even if you
    have not trained with exactly this code. Read it first."""


@dataclass(frozen=True, kw_only=True)
class ResultOptions(RunArgument):
    """Run."""

    out: Annotated[str | None, Flag(short="-o")] = None
    """Folder for the results, by default that of the run. Results of other studies are looked for
    there first."""


def open_run(options: Options) -> Run:
    """Open the run of a command, with the folder for its results."""
    from pcloud.run import Run

    return Run(options["run"], trust_code=options["trust_code"]).writing_to(options["out"])


@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """Reading of jets."""

    schema: str | None = None
    """Layout of the file: a name such as landscape or jetclass, or a YAML file with the fields of a
    JetSchema; by default detected."""
    labels: str | None = None
    """File with the labels of an array in an .npy file, which needs a schema; by default y.npy of
    x.npy."""
    check_units: bool | None = None
    """Refuse a file whose energies do not seem to be in the unit of the schema: true (default) or
    false."""
    on_bad_jet: Literal["error", "drop"] | None = None
    """Treatment of jets that are empty or have NaN, infinite or negative energies: error (default)
    or drop."""


@dataclass(frozen=True, kw_only=True)
class CheckpointOption(TrustOption):
    """Network."""

    checkpoint: Literal["best", "last"] = "best"
    """Weights of the best epoch or of the last."""


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(CheckpointOption):
    """Network."""

    batch_size: BatchSize = 512
    """Number of jets per batch; scores do not depend on it."""


@dataclass(frozen=True, kw_only=True)
class OutputArgument:
    """Output."""

    output: Argument
    """File to write: .parquet, .npz, or .h5 (Landscape layout)."""


@dataclass(frozen=True, kw_only=True)
class ChunkOption:
    """Memory."""

    chunk_size: NumJets = 50_000
    """Number of jets held in memory at a time."""


@dataclass(frozen=True, kw_only=True)
class OverwriteOption:
    """Output."""

    overwrite: Switch = False
    """Replace an existing file."""


SchedulerAddress = str | None


@dataclass(frozen=True, kw_only=True)
class ProgressOption:
    """Progress."""

    quiet: Annotated[bool, Flag(short="-q", switch=True)] = False
    """Show no progress."""


def reading(options: Options) -> Options:
    """Return the options of reading that were given."""
    given = {name: options[name] for name in ("on_bad_jet", "check_units")}
    given["schema"] = with_labels(read_schema(options["schema"]), options["labels"])
    return {name: value for name, value in given.items() if value is not None}
