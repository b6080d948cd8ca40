"""``pcloud download``: fetch a public sample or official weights."""

from __future__ import annotations

from dataclasses import dataclass

from pcloud.cli.command import Argument, Command, Options
from pcloud.cli.output import say, suggest


@dataclass(frozen=True, kw_only=True)
class DownloadOptions:
    """Download."""

    name: Argument
    """Name of a sample, such as landscape, or of official weights, such as
    particlenet/jetclass_kin."""
    splits: list[str] | None = None
    """Splits, such as test; by default all."""
    data_root: str | None = None
    """Folder of the public data sets; by default the environment variable PCLOUD_DATA, or
    ~/.cache/pcloud/data."""


def execute(options: Options) -> None:
    """Download, and print the paths."""
    from pcloud.datasets import download

    for path in dict.fromkeys(download(options["name"], options["splits"], options["data_root"])):
        say(str(path))
    suggest("datasets")


COMMAND = Command(
    "download",
    "Fetch a public sample, or official weights, from their authors.",
    execute,
    (DownloadOptions,),
)
