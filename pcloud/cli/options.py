"""Options that several commands share."""

from __future__ import annotations

from jsonargparse import ArgumentParser

from pcloud.cli.command import Options
from pcloud.training.config import read_schema


def add_run(parser: ArgumentParser, what: str = "Folder of the run.") -> None:
    """Which run."""
    parser.add_argument("run", type=str, help=what)


def add_reading(parser: ArgumentParser) -> None:
    """How to read files of jets; `reading` takes it up."""
    parser.add_argument(
        "--schema",
        type=str,
        help="Layout of the file: a name such as landscape or jetclass, or a YAML file with the "
        "fields of a JetSchema; by default recognised.",
    )
    parser.add_argument(
        "--check-units",
        type=bool,
        metavar="{true,false}",
        help="Refuse a file whose energies look as if they were not in the unit of the schema: "
        "true (default) or false.",
    )
    parser.add_argument(
        "--on-bad-jet",
        type=str,
        choices=["error", "drop"],
        help="What to do with a jet that is empty or has NaN, infinite or negative energies: "
        "error (default) or drop.",
    )


def reading(options: Options) -> Options:
    """How to read a file, as far as it was said."""
    said = {name: options[name] for name in ("on_bad_jet", "check_units")}
    said["schema"] = read_schema(options["schema"])
    return {name: value for name, value in said.items() if value is not None}


def add_checkpoint(parser: ArgumentParser) -> None:
    """Which weights of the run."""
    parser.add_argument(
        "--checkpoint",
        type=str,
        default="best",
        choices=["best", "last"],
        help="Weights of the best epoch or of the last.",
    )


def add_network(parser: ArgumentParser) -> None:
    """Which weights of the run, and how many jets at a time."""
    add_checkpoint(parser)
    parser.add_argument(
        "--batch-size", type=int, default=512, help="Jets at a time; no score depends on it."
    )


def add_jet_file(parser: ArgumentParser) -> None:
    """Where jets go."""
    parser.add_argument(
        "output", type=str, help="File to write: .parquet, .npz, or .h5 (Landscape layout)."
    )


def add_chunk_size(parser: ArgumentParser, default: int) -> None:
    """How much of a file is in memory."""
    parser.add_argument(
        "--chunk-size", type=int, default=default, help="Jets held in memory at a time."
    )


def add_overwrite(parser: ArgumentParser) -> None:
    """Whether a file may go."""
    parser.add_argument("--overwrite", action="store_true", help="Replace an existing file.")


def add_quiet(parser: ArgumentParser) -> None:
    """Whether to be silent on the way."""
    parser.add_argument("-q", "--quiet", action="store_true", help="Show no progress.")
