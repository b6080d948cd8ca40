"""Sections of the report on attribution, and on the comparison of samples."""

from __future__ import annotations

from pcloud.evaluation.figures.shift import distances_figure
from pcloud.evaluation.shift import ShiftTest, summary
from pcloud.interpret.attribution_figures import (
    attention_figure,
    features_figure,
    heatmaps_figure,
    images_figure,
    jets_figure,
)
from pcloud.report.blocks import Section, details, paragraph, table
from pcloud.report.contents import RunContents
from pcloud.report.figures import FigureFolder
from pcloud.run_files import SHIFT_FOLDER
from pcloud.studies.attribution import ClassAttribution, StoredAttribution
from pcloud.text import for_figure
from pcloud.words import number_of

__all__ = ["attribution", "shift"]


def attribution(run: RunContents, figures: FigureFolder) -> Section:
    """Draw attributions to single jets, features and mean images, and to edges and attention."""
    title = "Attribution"
    stored = run.result(StoredAttribution)
    if stored is None:
        return Section(title, "")
    classes = stored.classes
    prefixes = [
        f"attribution_{i}" if len(classes) > 1 else "attribution" for i in range(len(classes))
    ]
    parts = [
        _of_class(found, prefix, figures) for found, prefix in zip(classes, prefixes, strict=True)
    ]
    return Section(title, "".join(parts))


def _of_class(found: ClassAttribution, prefix: str, figures: FigureFolder) -> str:
    """Draw the attribution of the log-odds of one class; names of figures begin with `prefix`."""
    method = found.method
    if found.heatmaps is not None:
        return _pixels(found, prefix, figures)
    if found.of_rows:
        return (
            paragraph(_words(found)) + f'<div class="figures">{_more(found, prefix, figures)}</div>'
        )
    images = found.images or {}
    drawn = ""
    if found.drawn:  # some test jet has the class
        drawn += figures.add(
            f"{prefix}_jets",
            jets_figure(
                [{**jet, "values": jet["values"][method]} for jet in found.drawn],
                label=for_figure(f"{method.replace('_', ' ')}: log-odds of {found.signal}"),
            ),
            f"The most misclassified jets and typical ones. Area: share of pT; colour: "
            f"contribution of a particle to the log-odds of {found.signal} (red positive, blue "
            "negative).",
        )
    drawn += figures.add(
        f"{prefix}_mean_pt",
        images_figure(images["pt"], label="mean share of pT in a pixel"),
        "The average jet of each class.",
    )
    if method in images:
        drawn += figures.add(
            f"{prefix}_mean",
            images_figure(
                images[method], label=for_figure(f"mean {method.replace('_', ' ')} in a pixel")
            ),
            f"Mean attribution of the log-odds of {found.signal}, by the place in the jet.",
        )
    drawn += _more(found, prefix, figures)
    return paragraph(_words(found)) + f'<div class="figures">{drawn}</div>'


def _pixels(found: ClassAttribution, prefix: str, figures: FigureFolder) -> str:
    """Draw heatmaps of a network on images."""
    method = found.method
    label = for_figure(f"{method.replace('_', ' ')}: log-odds of {found.signal}")
    drawn = ""
    if found.heatmaps:
        drawn += figures.add(
            f"{prefix}_images",
            heatmaps_figure(found.heatmaps, method, label=label),
            "The most misclassified images and typical ones with the probability of their class, and "
            f"the contributions of their pixels to the log-odds of {found.signal} (red positive, "
            "blue negative).",
        )
    drawn += figures.add(
        f"{prefix}_mean",
        heatmaps_figure(found.mean_heatmaps or [], method, label=label),
        "The same on average over the images of each class.",
    )
    return paragraph(_words(found)) + f'<div class="figures">{drawn}</div>'


def _more(found: ClassAttribution, prefix: str, figures: FigureFolder) -> str:
    drawn = ""
    if found.shares:
        drawn += figures.add(
            f"{prefix}_features",
            features_figure(found.shares),
            "Share of each input in the mean absolute attribution.",
        )
    if found.edges:
        method = found.method
        jets = [
            {**jet, "values": jet["values"][method], "edges": edges}
            for jet, edges in zip(found.drawn, found.edges, strict=True)
        ]
        drawn += figures.add(
            f"{prefix}_edges",
            jets_figure(jets, label=for_figure(method.replace("_", " "))),
            "The most important messages between neighbours in the first block: gradient times "
            "message, red for and blue against the class.",
        )
    if found.attention is not None:
        drawn += figures.add(
            f"{prefix}_attention",
            attention_figure({k: (v[0], v[1]) for k, v in found.attention.items()}),
            "Attention between two particles against the features of the pair, relative to uniform "
            "attention (dashed). Bins hold equal numbers of pairs.",
        )
    return drawn


def _words(found: ClassAttribution) -> str:
    what = "pixels" if found.heatmaps is not None else "particles"
    of_what = f"the {what} of {number_of(found.jets, 'test jet')}"
    if found.of_rows:
        of_what = f"the columns of {number_of(found.jets, 'test event')}"
    words = f"The log-odds of {found.signal}, attributed to {of_what}."
    path = found.integrated_gradients
    start = "the mean event" if found.of_rows else "the mean particle"
    if found.heatmaps is not None:
        start = "a black image"
    elif path and "px" in path["shares"]:
        start = "particles without momentum"
        if path.get("start") == "axis":
            start = "a jet whose particles are collimated along its axis"
    if path:
        words += (
            f" Integrated gradients add up to the change of the log-odds from {start} to "
            f"the {'event' if found.of_rows else 'jet'}, {path['change']:.2f} on average, up to {path['gap']:.2g}."
        )
    return words


def shift(run: RunContents, figures: FigureFolder) -> Section:
    """Give the comparisons of samples of ``pcloud compare --run``."""
    title = "Comparison of samples"
    files = run.files(f"{SHIFT_FOLDER}/*.json", ShiftTest.read)
    body = ""
    for i, (file, found) in enumerate(files.items()):
        number = f"{found.jets[0]:,} and {number_of(found.jets[1], 'jet')}"
        drawn = figures.add(
            f"shift_{i}",
            distances_figure(found.differences),
            "Kolmogorov-Smirnov distance of each observable, the most different on top; coloured "
            "where it is significant after correction for the number of observables.",
        )
        body += paragraph(f"{file.stem}: {number}. {summary(found)}")
        body += f'<div class="figures">{drawn}</div>'
        body += details("All observables", table(found.rows()))
    return Section(title, body)
