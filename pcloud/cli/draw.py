"""``pcloud draw``: draw the clustering tree of a jet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Le

from pcloud.cli.command import Argument, Command, Flag, Options
from pcloud.cli.options import ReadingOptions, reading
from pcloud.cli.output import say
from pcloud.errors import InputError

_FORMATS = ("png", "pdf", "svg")


@dataclass(frozen=True, kw_only=True)
class DrawOptions:
    """Figure."""

    file: Argument
    """File of jets, or name of a data set, whose test jets are taken."""
    jet: Annotated[int, Ge(0), Le(10**12)] = 0
    """Number of the jet, from 0."""
    algorithm: Literal["cambridge_aachen", "kt", "antikt"] = "cambridge_aachen"
    """Algorithm that clusters the particles."""
    form: Literal["plane", "dendrogram"] = "plane"
    """Edges between particles in eta and phi, or particles side by side, merged at the height of their
    distance."""
    out: Annotated[str, Flag(short="-o")] = "tree.png"
    """Figure to write: .png, .pdf or .svg."""


def execute(options: Options) -> None:
    """Draw the tree and print the path of the figure."""
    out = Path(options["out"])
    if out.suffix.removeprefix(".") not in _FORMATS:
        raise InputError(f"the figure must be a .png, .pdf or .svg file, got {options['out']!r}")
    import torch

    import pcloud
    from pcloud.evaluation.figures.style import save_figure
    from pcloud.interpret.trees import tree_figure
    from pcloud.io.jets import momenta

    place = {"start": options["jet"], "stop": options["jet"] + 1}
    if options["file"] in pcloud.list_datasets():
        jets = pcloud.load_dataset(options["file"], "test", **place)
    else:
        jets = pcloud.read_jets(options["file"], **reading(options), **place)
    if not hasattr(jets, "fields") or "p4" not in jets.fields:
        raise InputError(f"{options['file']} holds no jets")
    if not len(jets):
        raise InputError(f"{options['file']} has no jet {options['jet']}")
    p4 = torch.from_numpy(momenta(jets))
    title = f"jet {options['jet']}: {len(p4)} particles"
    figure = tree_figure(p4, options["algorithm"], form=options["form"], title=title)
    (path,) = save_figure(figure, out.with_suffix(""), [out.suffix.removeprefix(".")])
    say(f"written to {path}")


COMMAND = Command(
    "draw", "Draw the clustering tree of a jet.", execute, (DrawOptions, ReadingOptions)
)
