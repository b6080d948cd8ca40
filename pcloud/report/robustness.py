"""The parts of a report about jets of other kinds than the test jets."""

from __future__ import annotations

from pcloud.evaluation.figures.dependence import dependence_figure, sculpting_figure
from pcloud.evaluation.figures.robustness import robustness_figure
from pcloud.report.blocks import Section, details, paragraph, table
from pcloud.report.figures import FigureFolder
from pcloud.report.run_folder import RunFolder
from pcloud.studies.robustness import ROBUSTNESS_FILE, read_robustness

__all__ = ["robustness"]


def robustness(run: RunFolder, figures: FigureFolder) -> Section:
    """Draw what changed jets do to the tagger, and what it does to the mass of the background."""
    title = "When the jets are others"
    if not (run.path / ROBUSTNESS_FILE).exists():
        return Section(title, "")
    stored = read_robustness(run.path)
    found = stored.robustness
    body = paragraph(
        f"The same {found.jets:,} test jets, changed and scored again. Errors are those of the "
        "change on the same jets, which are much smaller than those of the numbers themselves."
    )
    drawn = figures.add(
        "robustness",
        robustness_figure(found),
        "Changes of the jets, row by row with their strengths. Left, the change of the AUC, "
        "linear up to 2 and logarithmic beyond; right, the rejection over that of the unchanged "
        "jets, the threshold set anew. On the dashed lines nothing changes.",
    )
    efficiency = f"{found.efficiency:g}"
    drawn += figures.add(
        "dependence",
        dependence_figure(stored.dependence, signal=stored.signal, background=stored.background),
        f"What passes the cut that keeps {efficiency} of all {stored.signal}, in bins with equal "
        f"numbers of jets: {stored.signal} (left) and {stored.background} (right, logarithmic; "
        "arrows are limits where none passes).",
    )
    drawn += figures.add(
        "sculpting",
        sculpting_figure(stored.sculpting, background=stored.background),
        f"Mass of {stored.background} before and after cuts: a tagger that does not see the mass "
        "leaves its shape as it is.",
    )
    words = (
        "The Jensen-Shannon distance of the mass before and after is 0 for equal shapes and 1 for "
        "shapes that share nothing. As many jets drawn blindly show the distance in the last "
        "column: only what exceeds it is sculpting."
    )
    return Section(
        title,
        body
        + f'<div class="figures">{drawn}</div>'
        + paragraph(words)
        + table(stored.sculpting_rows())
        + details("All changes in numbers", table(found.rows())),
    )
