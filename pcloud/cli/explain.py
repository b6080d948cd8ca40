"""``pcloud explain``: Taylor coefficients and attributions of the decisions of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Le

from pcloud.cli.command import Command, Options
from pcloud.cli.options import CheckpointOption, ProgressOption, ResultOptions, open_run
from pcloud.cli.output import print_rows, progress_bar, say, suggest
from pcloud.training.config import NumJets

if TYPE_CHECKING:
    from pcloud.run import Run


Method = Literal["taylor", "saliency", "integrated_gradients", "smoothgrad", "occlusion"]


@dataclass(frozen=True, kw_only=True)
class ExplainOptions(ProgressOption, CheckpointOption, ResultOptions):
    """Explanation."""

    method: list[Method] | None = None
    """taylor for the coefficients of the response; the others for attributions to particles and
    features, to pixels, drawn on jets or images, or to the columns of a table. On jets and images,
    all but taylor and occlusion need captum. By default taylor, or occlusion for a network on
    images."""
    jets: NumJets | None = None
    """Number of test jets; by default 2000 for taylor and 200 for the others, or as many as the
    network processes in a few minutes."""
    pair_jets: Annotated[int, Ge(0), Le(10**12)] | None = None
    """Number of these jets for which pairs of features of one particle are separated from pairs of
    features of two, which takes long; by default up to 20."""
    signal: str | None = None
    """Class to explain; by default the second of two, or all."""


def execute(options: Options) -> None:
    """Explain the run by each of the methods."""
    from pcloud.studies.attribution import default_method

    run = open_run(options)
    methods = options["method"] or [default_method(run, options["checkpoint"])]
    attribution = [method for method in methods if method != "taylor"]
    if attribution:
        _explain_attribution(run, attribution, options)
    if "taylor" in methods:
        _explain_taylor(run, options)
    suggest("report", run.path)


def _explain_attribution(run: Run, methods: list[str], options: Options) -> None:
    from pcloud.studies.attribution import attribute_run

    what = ", ".join(methods).replace("_", " ")
    with progress_bar(what, 1, quiet=options["quiet"]) as advance:
        stored = attribute_run(run, methods, **_shared(options), advance=advance)
    for found in stored.classes:
        say(f"log-odds of {found.signal}:")
        if rows := found.rows():
            print_rows(rows)
        if path := found.integrated_gradients:
            say(
                f"integrated gradients leave {path['gap']:.2g} of a change of the log-odds of "
                f"{path['change']:.2f} unexplained"
            )
    say(
        f"{run.modality.number_of(stored.classes[0].jets, 'test')}; written to {run.out / stored.file}"
    )


def _explain_taylor(run: Run, options: Options) -> None:
    from pcloud.studies.taylor import taylor_run

    with progress_bar("Taylor coefficients", 1, quiet=options["quiet"]) as advance:
        shared, pair_jets = _shared(options), options["pair_jets"]
        stored = taylor_run(run, **shared, pair_jets=pair_jets, advance=advance)
    for name in stored.classes:
        print_rows(stored.class_rows(name))
    say(f"{run.modality.number_of(stored.jets, 'test')}; written to {run.out / stored.file}")


def _shared(options: Options) -> Options:
    return {name: options[name] for name in ("signal", "jets", "checkpoint")}


COMMAND = Command("explain", "Explain the decisions of a tagger.", execute, (ExplainOptions,))
