"""Section of the report on images: misclassified ones, filters and activations."""

from __future__ import annotations

import numpy as np
import torch

from pcloud.interpret.cnn_figures import activation_figure, filters_figure, misclassified_figure
from pcloud.report.blocks import Section, paragraph
from pcloud.report.contents import RunContents
from pcloud.report.figures import FigureFolder
from pcloud.studies.image_figures import StoredImages

__all__ = ["images"]


def images(run: RunContents, figures: FigureFolder) -> Section:
    """Draw misclassified images, the first filters, and the activations of each class."""
    title = "Misclassified images, filters and activations"
    stored = run.result(StoredImages)
    if stored is None:
        return Section(title, "")
    drawn = ""
    if stored.misclassified:
        drawn += figures.add(
            "images_misclassified",
            misclassified_figure(
                torch.tensor(stored.misclassified),
                stored.labels,
                np.array(stored.scores),
                stored.classes,
            ),
            "The most misclassified images of the test: those with the highest probability of a wrong "
            "class. Above each the predicted class and the true one with their probabilities.",
        )
    if stored.filters:
        drawn += figures.add(
            "images_filters",
            filters_figure(stored.layer, np.array(stored.filters)),
            "Filters of the first convolution, one column each, with its input channels or orientations "
            "as rows: blue is negative and red is positive, on one scale.",
        )
    if stored.activations:
        drawn += figures.add(
            "images_activations",
            activation_figure(
                {name: np.array(values) for name, values in stored.activations.items()},
                stored.classes,
            ),
            "Mean activation of each channel for each class, relative to the class with the largest: a "
            "dark cell in a light column is a channel that responds to one class.",
        )
    words = f"{stored.num_misclassified:,} of {stored.num_images:,} test images are misclassified."
    return Section(title, paragraph(words) + f'<div class="figures">{drawn}</div>')
