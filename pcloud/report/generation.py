"""Section of the report on generated jets."""

from __future__ import annotations

from pcloud.evaluation.figures.generation import observables_figure, ratios_figure
from pcloud.report.blocks import Section, paragraph, table
from pcloud.report.contents import RunContents
from pcloud.report.figures import FigureFolder
from pcloud.studies.generation import StoredGeneration
from pcloud.words import number_of

__all__ = ["generation"]


def generation(run: RunContents, figures: FigureFolder) -> Section:
    """Compare the jets of a generator with real ones."""
    title = "Generated jets"
    stored = run.result(StoredGeneration)
    if stored is None:
        return Section(title, "")
    body = paragraph(
        f"{number_of(stored.generated, 'generated jet')} and {number_of(stored.real, 'real jet')} "
        "that the generator was not trained on."
    )
    body += "".join(paragraph(f"{line[0].upper()}{line[1:]}.") for line in stored.sentences())
    drawn = ""
    for i, label in enumerate(stored.labels):
        shown = [h for h in stored.histograms if h.label == label]
        drawn += figures.add(
            f"generated_{i}",
            observables_figure(shown, label),
            f"Observables of jets of {label}: shares of the jets in each bin, and generated over "
            "real jets below, with counting errors.",
        )
    drawn += figures.add(
        "generated_ratios",
        ratios_figure(stored.distances),
        "Wasserstein distance of generated jets from real ones over that of two real samples of the "
        "same size: 1 is as good as real jets. Bars are the spread over ten draws.",
    )
    words = (
        "Wasserstein distances are in the unit of the observable (GeV). FPD and KPD are the Fréchet "
        "and kernel distances of 35 energy flow polynomials; coverage is the fraction of real jets "
        "with a generated one nearer than their fifth real neighbour. The floor is the same "
        "quantity for two real samples."
    )
    return Section(
        title,
        body + f'<div class="figures">{drawn}</div>' + paragraph(words) + table(stored.rows()),
    )
