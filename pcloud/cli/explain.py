"""``pcloud explain``: Taylor coefficients and attributions of the decisions of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Le

from pcloud.cli.command import Command, Options
from pcloud.cli.options import CheckpointOption, ProgressOption, RunArgument
from pcloud.cli.output import print_rows, progress_bar, say
from pcloud.training.config import NumJets

if TYPE_CHECKING:
    from pcloud.training.run import Run


Method = Literal["taylor", "saliency", "integrated_gradients", "smoothgrad", "occlusion"]


@dataclass(frozen=True, kw_only=True)
class ExplainOptions(ProgressOption, CheckpointOption, RunArgument):
    """Explanation."""

    method: list[Method] = field(default_factory=lambda: ["taylor"])
    """taylor for the coefficients of the response; the others for attributions to particles and
    features, drawn on jets. All but taylor and occlusion need captum."""
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
    from pcloud.training.run import Run

    run = Run(options["run"])
    attribution = [method for method in options["method"] if method != "taylor"]
    if attribution:
        _explain_attribution(run, attribution, options)
    if "taylor" in options["method"]:
        _explain_taylor(run, options)


def _explain_attribution(run: Run, methods: list[str], options: Options) -> None:
    from pcloud.studies.attribution import attribute_run, explained_classes, feature_rows

    what = ", ".join(methods).replace("_", " ")
    with progress_bar(what, 1, quiet=options["quiet"]) as advance:
        found = attribute_run(
            run,
            methods,
            signal=options["signal"],
            jets=options["jets"],
            checkpoint=options["checkpoint"],
            advance=advance,
        )
    classes = explained_classes(found)
    for values in classes:
        say(f"log-odds of {values['signal']}:")
        if rows := feature_rows(values):
            print_rows(rows)
        if path := values["methods"].get("integrated_gradients"):
            say(
                f"integrated gradients leave {path['gap']:.2g} of a change of the log-odds of "
                f"{path['change']:.2f} unexplained"
            )
    say(f"{classes[0]['jets']:,} test jets; written to {run.path / 'attribution.json'}")


def _explain_taylor(run: Run, options: Options) -> None:
    from pcloud.studies.taylor import explain_run

    with progress_bar("Taylor coefficients", 1, quiet=options["quiet"]) as advance:
        found = explain_run(
            run,
            signal=options["signal"],
            jets=options["jets"],
            pair_jets=options["pair_jets"],
            checkpoint=options["checkpoint"],
            advance=advance,
        )
    for name, values in found["classes"].items():
        rows = [["Taylor coefficient", f"mean |t|, {name}"]]
        print_rows(rows + [[key, str(t)] for key, t in list(values["parts"]["all"].items())[:15]])
    say(f"{found['jets']:,} test jets; written to {run.path / 'taylor.json'}")


COMMAND = Command("explain", "Explain the decisions of a tagger.", execute, (ExplainOptions,))
