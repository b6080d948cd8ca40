"""The parts of a report about which particles a decision rests on, and about other samples."""

from __future__ import annotations

from typing import Any

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
from pcloud.report.figures import FigureFolder
from pcloud.report.run_folder import RunFolder
from pcloud.studies.attribution import (
    ATTRIBUTION_FILE,
    explained_classes,
    read_attribution,
)

__all__ = ["attribution", "shift"]

_BEST_FIRST = ("integrated_gradients", "occlusion", "smoothgrad", "saliency")


def attribution(run: RunFolder, figures: FigureFolder) -> Section:
    """Draw attributions on jets, by feature and on average, and what is inside the network."""
    title = "What a decision rests on"
    if not (run.path / ATTRIBUTION_FILE).exists():
        return Section(title, "")
    classes = explained_classes(read_attribution(run.path))
    prefixes = [
        f"attribution_{i}" if len(classes) > 1 else "attribution" for i in range(len(classes))
    ]
    parts = [
        _of_class(found, prefix, figures) for found, prefix in zip(classes, prefixes, strict=True)
    ]
    return Section(title, "".join(parts))


def _of_class(found: dict[str, Any], prefix: str, figures: FigureFolder) -> str:
    """Draw what the log-odds of one class come from; the names of figures begin with `prefix`."""
    method = next(name for name in _BEST_FIRST if name in found["methods"])
    if "heatmaps" in found:
        return _pixels(found, method, prefix, figures)
    drawn = ""
    if found["drawn"]:  # some test jet has the class
        drawn += figures.add(
            f"{prefix}_jets",
            jets_figure(
                [{**jet, "values": jet["values"][method]} for jet in found["drawn"]],
                label=f"{method.replace('_', ' ')}: log-odds of {found['signal']}",
            ),
            f"The most misclassified jets and typical ones. Area: share of pT; colour: what a particle "
            f"adds to the log-odds of {found['signal']} (red for it, blue against).",
        )
    drawn += figures.add(
        f"{prefix}_mean_pt",
        images_figure(found["images"]["pt"], label="mean share of pT in a pixel"),
        "The average jet of each class.",
    )
    if method in found["images"]:
        drawn += figures.add(
            f"{prefix}_mean",
            images_figure(
                found["images"][method], label=f"mean {method.replace('_', ' ')} in a pixel"
            ),
            f"Where in the jet the log-odds of {found['signal']} come from, on average.",
        )
    drawn += _more(found, prefix, figures)
    return paragraph(_words(found)) + f'<div class="figures">{drawn}</div>'


def _pixels(found: dict[str, Any], method: str, prefix: str, figures: FigureFolder) -> str:
    """Heatmaps of a network on images."""
    label = f"{method.replace('_', ' ')}: log-odds of {found['signal']}"
    drawn = ""
    if found["heatmaps"]:
        drawn += figures.add(
            f"{prefix}_images",
            heatmaps_figure(found["heatmaps"], method, label=label),
            "The most misclassified images and typical ones with the probability of their class, and "
            f"what their pixels add to the log-odds of {found['signal']} (red for it, blue against).",
        )
    drawn += figures.add(
        f"{prefix}_mean",
        heatmaps_figure(found["mean_heatmaps"], method, label=label),
        "The same on average over the images of each class.",
    )
    return paragraph(_words(found)) + f'<div class="figures">{drawn}</div>'


def _more(found: dict[str, Any], prefix: str, figures: FigureFolder) -> str:
    drawn = ""
    shares = {m: v["shares"] for m, v in found["methods"].items() if len(v["shares"]) > 1}
    if shares:
        drawn += figures.add(
            f"{prefix}_features",
            features_figure(shares),
            "Part of the mean absolute attribution that each input has.",
        )
    if found.get("edges"):
        method = next(name for name in _BEST_FIRST if name in found["methods"])
        jets = [
            {**jet, "values": jet["values"][method], "edges": edges}
            for jet, edges in zip(found["drawn"], found["edges"], strict=True)
        ]
        drawn += figures.add(
            f"{prefix}_edges",
            jets_figure(jets, label=method.replace("_", " ")),
            "The most important messages between neighbours in the first block: gradient times "
            "message, red for the class and blue against it.",
        )
    if "attention" in found:
        drawn += figures.add(
            f"{prefix}_attention",
            attention_figure({k: (v[0], v[1]) for k, v in found["attention"].items()}),
            "Attention between two particles against what they are to each other, over that of a "
            "layer that does not look (dashed). Bins hold equal numbers of pairs.",
        )
    return drawn


def _words(found: dict[str, Any]) -> str:
    what = "pixels" if "heatmaps" in found else "particles"
    words = f"The log-odds of {found['signal']}, attributed to the {what} of {found['jets']:,} test jets."
    path = found["methods"].get("integrated_gradients")
    start = "the mean particle"
    if "heatmaps" in found:
        start = "a black image"
    elif path and "px" in path["shares"]:
        start = "particles without momentum"
        if path.get("start") == "axis":
            start = "a jet whose particles are collimated along its axis"
    if path:
        words += (
            f" Integrated gradients add up to the change of the log-odds from {start} to "
            f"the jet, {path['change']:.2f} on average, up to {path['gap']:.2g}."
        )
    return words


def shift(run: RunFolder, figures: FigureFolder) -> Section:
    """Give the comparisons of samples that ``pcloud compare --run`` left."""
    title = "Do samples differ"
    files = sorted(run.path.glob("shift/*.json"))
    body = ""
    for i, file in enumerate(files):
        found = ShiftTest.read(file)
        number = f"{found.jets[0]:,} and {found.jets[1]:,} jets"
        drawn = figures.add(
            f"shift_{i}",
            distances_figure(found.differences),
            "Kolmogorov-Smirnov distance of each observable, the most different on top; coloured "
            "where it is significant after correction for the number of looks.",
        )
        body += paragraph(f"{file.stem}: {number}. {summary(found)}")
        body += f'<div class="figures">{drawn}</div>'
        body += details("All observables", table(found.rows()))
    return Section(title, body)
