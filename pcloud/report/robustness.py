"""Section of the report on the robustness to modified jets."""

from __future__ import annotations

from pcloud.evaluation.figures.dependence import dependence_figure, sculpting_figure
from pcloud.evaluation.figures.robustness import robustness_figure
from pcloud.report.blocks import Section, details, paragraph, table
from pcloud.report.contents import RunContents
from pcloud.report.figures import FigureFolder
from pcloud.studies.robustness import StoredRobustness
from pcloud.words import number_of

__all__ = ["robustness"]


def robustness(run: RunContents, figures: FigureFolder) -> Section:
    """Draw the effect of modified jets on the tagger, and of the tagger on the background mass."""
    title = "Robustness to modified jets"
    stored = run.result(StoredRobustness)
    if stored is None:
        return Section(title, "")
    found = stored.robustness
    body = paragraph(
        f"The same {number_of(found.jets, 'test jet')}, modified and scored again. Errors are those of the "
        "change on the same jets, which are much smaller than those of the numbers themselves."
    )
    drawn = figures.add(
        "robustness",
        robustness_figure(found),
        "Modifications of the jets, row by row with their strengths. Left, the change of the AUC, "
        "linear up to 2 and logarithmic beyond; right, the ratio of the rejection to that of the "
        "unchanged jets, with a new threshold. The dashed lines mark no change.",
    )
    efficiency = f"{found.efficiency:g}"
    drawn += figures.add(
        "dependence",
        dependence_figure(stored.dependence, signal=stored.signal, background=stored.background),
        f"Fraction that passes the cut with efficiency {efficiency} for {stored.signal}, in bins "
        f"with equal numbers of jets: {stored.signal} (left) and {stored.background} (right, "
        "logarithmic; arrows are limits where no jet passes).",
    )
    drawn += figures.add(
        "sculpting",
        sculpting_figure(stored.sculpting, background=stored.background),
        f"Mass of {stored.background} before and after cuts: a tagger that does not use the mass "
        "leaves its shape unchanged.",
    )
    words = (
        "The Jensen-Shannon distance of the mass before and after is 0 for equal shapes and 1 for "
        "disjoint shapes. The last column is the distance for as many jets drawn at random: only "
        "an excess over it is sculpting."
    )
    return Section(
        title,
        body
        + f'<div class="figures">{drawn}</div>'
        + paragraph(words)
        + table(stored.sculpting_rows())
        + details("All modifications in numbers", table(found.rows())),
    )
