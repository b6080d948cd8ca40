"""Sections of the report, in their order. A further section is another function in `SECTIONS`."""

from __future__ import annotations

import re
import shlex
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from pcloud.errors import InputError, UnknownNameError, UnreadableFileWarning
from pcloud.evaluation import Measured, Scores, read_scores
from pcloud.evaluation.discriminants import auc_matrix
from pcloud.evaluation.figures import (
    confusion_figure,
    roc_figure,
    score_figure,
    training_figure,
)
from pcloud.evaluation.figures.curves import PANELS, panels_of
from pcloud.evaluation.figures.discriminants import (
    auc_matrix_figure,
    fraction_figure,
    rejections_figure,
)
from pcloud.evaluation.figures.significance import significance_figure
from pcloud.evaluation.figures.spectra import spectra_figure
from pcloud.evaluation.scores import has_classes
from pcloud.evaluation.significance import significance_improvement, significance_rows
from pcloud.evaluation.table import describe, is_of_target
from pcloud.evaluation.threshold import AtThreshold
from pcloud.evaluation.working_points import working_points_of_scores
from pcloud.models.registry import model_info
from pcloud.report.anomaly import anomaly
from pcloud.report.attribution import attribution, shift
from pcloud.report.blocks import (
    Section,
    absent,
    choice,
    details,
    duration,
    paragraph,
    subscripts,
    table,
)
from pcloud.report.contents import GAIN, RunContents
from pcloud.report.figures import FigureFolder
from pcloud.report.generation import generation
from pcloud.report.images import images
from pcloud.report.nouns import section_with_noun
from pcloud.report.particles import particles
from pcloud.report.regression import regression
from pcloud.report.robustness import robustness
from pcloud.report.summary import meaning, summary_words
from pcloud.report.trust import calibration, taylor, uncertainty
from pcloud.run_files import (
    CONFIG_FILE,
    ENVIRONMENT_FILE,
    EVALUATION_FOLDER,
    HISTORY_FILE,
    SCORES_FILE,
)
from pcloud.studies.comparison import RunComparison
from pcloud.studies.discriminants import StoredDiscriminants
from pcloud.studies.registry import further_studies
from pcloud.text import for_html
from pcloud.training.fingerprint import SPLIT_NAMES, stored_fingerprints
from pcloud.training.layer_norms import LayerNorms, layer_norms_figure
from pcloud.training.reweight import Reweighting
from pcloud.training.run_folder import RunFolder
from pcloud.words import number_of

_MAX_BACKGROUNDS = 11  # of which the ROC curves are drawn
_MAX_LINES = 18  # of different style in a figure

OVERVIEW = {
    "roc": "ROC curve",
    "scores": "scores",
    "training_loss": "training",
    "training_objectives": "objectives",
}
"""Figures that the summary shows, where they are, with a title."""

EFFICIENCIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Efficiencies of the table of working points."""


def results(run: RunContents, figures: FigureFolder) -> Section:
    """Say what was trained and tested, and give the numbers, each with its error."""
    title = "Summary"
    told = summary_words(run)
    sentence = paragraph(told, "lead") if told else ""
    if run.is_pretraining:
        return Section(title, sentence + paragraph(_pretrained(run)))
    if run.table is None:
        return Section(title, sentence + absent(_why(run, SCORES_FILE), "no numbers"))
    shown = {n: e for n, e in run.table.items() if "[" not in n and not is_of_target(n)}
    if not shown:
        return Section(title, sentence + figures.overview(OVERVIEW))
    tiles = [_tile(name, entry) for name, entry in shown.items()]
    number = run.table.settings.get("num_bootstrap")
    check = (
        f"; below it, as a check, the spread of {number} bootstrap resamplings" if number else ""
    )
    words = (
        "± is the counting error of the test jets (DeLong for the area, binomial for the "
        "accuracy, passing jets and threshold for the rejection)"
        f"{check}. Not included: the spread between trainings."
    )
    parts = [sentence, f'<dl class="tiles">{"".join(tiles)}</dl>', figures.overview(OVERVIEW)]
    parts.append(paragraph(words, "note"))
    means = [
        [describe(n), text]
        for n in shown
        if (text := meaning(n, run.table.settings, run.noun.removesuffix("s")))
    ]
    parts.append(details("What the numbers mean", table(means, header=False)) if means else "")
    if by_class := run.table.by_class():
        parts.append(table(by_class))
    parts += [paragraph(note, "note") for note in run.table.notes]
    return Section(title, "".join(parts))


def _pretrained(run: RunContents) -> str:
    """Describe the result of a pretraining."""
    gain = np.nanmax(run.history.column(GAIN))
    return (
        "Pretrained without labels: the network predicts hidden particles from the visible ones, "
        f"{gain:.2f} nats per particle better than constant predictions. It has no scores; a training "
        "begins with it by --init-from."
    )


def discrimination(run: RunContents, figures: FigureFolder) -> Section:
    """Draw ROC curves and scores."""
    title = "ROC curves and scores"
    if run.scores is None and (run.targets or run.particles or run.is_pretraining):
        return Section(title, "")
    if run.scores is None:
        return Section(title, absent(_why(run, SCORES_FILE), "no curves"))
    settings = {} if run.table is None else run.table.settings
    chosen: dict[str, Any] = {name: settings.get(name) for name in ("signal", "background")}
    efficiencies = settings.get("efficiencies", (0.3, 0.5))
    roc = figures.add(
        "roc",
        roc_figure(run.scores, efficiencies=efficiencies, **chosen),
        "ROC curve. Background rejection (vertical, logarithmic) against signal efficiency: "
        "higher is better. The band holds 68 % of the bootstrap resamplings; dashed, a random "
        "choice.",
        "" if run.table is None else _spoken(run.table),
    )
    binary = len(run.scores.classes) == 2
    if not binary and chosen["background"] is None:
        roc = choice("background", [("all others", roc), *_roc_of_each(run.scores, figures)])
    which = "jets of each class" if binary else "its jets (blue) and all others (grey)"
    scores = figures.add(
        "scores",
        score_figure(run.scores, **chosen),
        f"Scores. The distribution of the score for {which}, logarithmic: the less they "
        "overlap, the better. Bars show counting errors.",
    )
    found = significance_improvement(run.scores, **chosen)
    improvement = figures.add(
        "significance",
        significance_figure(found[:_MAX_LINES]),
        "Significance improvement. Factor by which a cut on the score changes the significance "
        "S/√B (vertical) against signal efficiency. Bars hold 68 %; points with hardly any "
        "background left are left out.",
    )
    rows = table(significance_rows(found)) + _working_points(run.scores, settings)
    return Section(title, f'<div class="figures">{roc}{scores}{improvement}</div>' + rows)


def _roc_of_each(sample: Scores, figures: FigureFolder) -> list[tuple[str, str]]:
    """ROC curves against each class as background, without bands."""
    return [
        (
            name,
            figures.add(
                f"roc_against_{i}",
                roc_figure(sample, background=i, num_bootstrap=0),
                f"ROC curves of each class against {name}, ranked by s / (s + b).",
            ),
        )
        for i, name in enumerate(sample.classes[:_MAX_BACKGROUNDS])
    ]


def _working_points(sample: Scores, settings: Mapping[str, Any]) -> str:
    """Table of the thresholds that give some efficiencies, if there is one signal."""
    chosen: dict[str, Any] = {name: settings.get(name) for name in ("signal", "background")}
    if len(sample.classes) > 2 and chosen["signal"] is None:
        return ""
    points = working_points_of_scores(sample, efficiencies=EFFICIENCIES, mistag_rates=(), **chosen)
    header = ["working point", "threshold", "efficiency", "mistag rate"]
    rows = [[p.name, str(p.threshold), str(p.efficiency), str(p.mistag_rate)] for p in points]
    words = "Jets whose score is at least the threshold pass."
    return paragraph(words, "note") + table([header, *rows])


def _spoken(metrics: Mapping[str, Measured]) -> str:
    """The main numbers in words, for those who hear the page."""
    shown = (f"{describe(n)} {e}" for n, e in metrics.items() if "[" not in n)
    return f"{'; '.join(shown)}."


def confusion(run: RunContents, figures: FigureFolder) -> Section:
    """Draw the confusion matrix three ways."""
    title = "Confusion matrix"
    has_others = bool(run.targets or run.particles or run.is_pretraining)
    if run.detects_anomalies or (run.scores is None and has_others):
        return Section(title, "")
    if run.scores is None:
        return Section(title, absent(_why(run, SCORES_FILE), "no confusion matrix"))
    if not run.scores.are_probabilities:
        return Section(title, absent("The scores are no probabilities", "no predicted class"))
    signal = None if run.table is None else run.table.settings.get("signal")
    captions = {
        None: "Counts. Each row holds the jets of one true class, each column those of one "
        "predicted class; the diagonal holds correctly classified jets.",
        "true": "Normalised by true class. Each row adds up to 100 %; the diagonal is the "
        "efficiency.",
        "predicted": "Normalised by predicted class. Each column adds up to 100 %; the diagonal "
        "is the purity for a sample with this mix of classes.",
    }
    drawn = [
        figures.add(
            f"confusion_{normalise or 'counts'}",
            confusion_figure(run.scores, normalise, signal=signal),
            caption,
        )
        for normalise, caption in captions.items()
    ]
    drawn += _other_matrices(run, figures, signal)
    names = ["counts", "by true class", "by predicted class"]
    body = choice("confusion", list(zip(names, drawn, strict=False)))
    if drawn[3:]:
        body += f'<div class="figures">{"".join(drawn[3:])}</div>'
    if (stored := run.result(AtThreshold)) is not None:
        body += paragraph("Counts at a threshold on the score of each class:") + table(
            stored.rows()
        )
    return Section(title, body)


def _other_matrices(run: RunContents, figures: FigureFolder, signal: Any) -> list[str]:
    """Confusion matrix of each further evaluation, such as that of the training jets."""
    drawn = []
    files = run.files(f"{EVALUATION_FOLDER}/*/{SCORES_FILE}", _scores_with_classes)
    for i, (file, sample) in enumerate(files.items()):
        if sample is not None and sample.are_probabilities:
            name = file.parent.name
            drawn.append(
                figures.add(
                    f"confusion_other_{i}",
                    confusion_figure(sample, "true", signal=signal),
                    f"Evaluation {name}: normalised by true class.",
                )
            )
    return drawn


def _scores_with_classes(path: Path) -> Scores | None:
    """Scores of a file; None if it has none of classes."""
    return read_scores(path) if has_classes(path) else None


def comparison(run: RunContents, figures: FigureFolder) -> Section:
    """Give the paired comparison of this run with others."""
    title = "Comparison with other runs"
    stored = run.result(RunComparison)
    if stored is None:
        return Section(title, "")
    words = (
        f"Each tagger on the same test jets; differences and ratios to {stored.names[0]}, whose errors "
        "are those of paired jets."
    )
    return Section(title, paragraph(words) + table(stored.rows()))


def training(run: RunContents, figures: FigureFolder) -> Section:
    """Draw the training curves."""
    curves = run.history.curves()
    panels = panels_of(curves)
    columns = {name for names in panels.values() for name in names}
    if not columns & set(curves):
        return Section("Training", absent(_why(run, HISTORY_FILE), "no training curves"))
    captions: dict[tuple[str, ...], str] = {
        ("loss", "learning rate"): "Loss after every epoch: lower is better, a ring marks the "
        "best validation. Validation rising while training falls is overtraining. Below, the "
        "learning rate.",
        ("accuracy", "AUC"): "Metrics after every epoch: higher is better, a ring marks the best "
        "validation.",
    }
    others = tuple(title for title in panels if title not in PANELS)
    if others:
        captions[others] = (
            "Each objective after every epoch: losses and resolutions are best where they are low, "
            "other metrics where they are high; a ring marks the best validation."
        )
    drawn = [
        figures.add(
            f"training_{'objectives' if titles == others else titles[0]}",
            training_figure({name: curves[name] for name in names}),
            caption,
        )
        for titles, caption in captions.items()
        if (names := [name for title in titles for name in panels[title] if name in curves])
    ]
    words = _training_words(run)
    if not any(name.startswith("val_") for name in curves):
        words += " There were no validation jets, so nothing here shows overtraining."
    norms = run.result(LayerNorms)
    if norms is not None and norms.gradients:
        caption = (
            "Root mean square of the output of each layer and norm of the gradient of its parameters, "
            "in the first batch of an epoch, from the input to the output. Gradients that fall by "
            "orders of magnitude towards the input vanish."
        )
        drawn.append(figures.add("layer_norms", layer_norms_figure(norms), caption))
    body = paragraph(words) + "".join(paragraph(text, "note") for text in _warnings(run))
    return Section("Training", f'{body}<div class="figures">{"".join(drawn)}</div>')


def discriminants(run: RunContents, figures: FigureFolder) -> Section:
    """Give the rejection of each background class, or the AUC of each pair of classes."""
    title = "Discriminants and pairs of classes"
    stored = run.result(StoredDiscriminants)
    if stored is None:
        sample = run.scores
        if sample is None or len(sample.classes) < 3 or not sample.are_probabilities:
            return Section(title, "")
        matrix = auc_matrix(sample)
        return Section(
            title, f'<div class="figures">{_areas(matrix, sample.classes, figures)}</div>'
        )
    words = (
        f"The discriminant {stored.formula} ranks the jets for {stored.signal}. Rejection of each other "
        "class at the signal efficiencies of the working points of ATLAS, and signal efficiency at the "
        "mistag rates of those of CMS."
    )
    drawn = _areas(stored.areas, stored.classes, figures)
    if stored.scan is not None:
        scan = stored.scan
        drawn += figures.add(
            "discriminant_fractions",
            fraction_figure(
                scan.shares,
                scan.rejections_first,
                scan.rejections_second,
                names=(scan.first, scan.second),
                signal=stored.signal,
                efficiency=stored.efficiency,
                chosen=scan.chosen,
            ),
            f"Rejection of {scan.first} against that of {scan.second} at one signal efficiency, for all "
            "shares f of the first in the background of the discriminant; the star is the one in use. "
            "Neighbouring points share their jets.",
        )
    for found in stored.bins:
        drawn += figures.add(
            f"discriminant_{found.observable}",
            rejections_figure(found.observable, found.edges, found.values, signal=stored.signal),
            f"Rejection of each class and signal efficiency in bins of {found.observable}, for the cut "
            f"with a signal efficiency of {stored.efficiency:.0%} over all bins. Bars show counting "
            "errors, arrows limits at 95 % confidence.",
        )
    body = paragraph(words) + table(stored.rows()) + table(stored.mistag_rows())
    return Section(title, f'{body}{table(stored.area_rows())}<div class="figures">{drawn}</div>')


def _areas(
    matrix: Sequence[Sequence[Measured | None]], classes: Sequence[str], figures: FigureFolder
) -> str:
    return figures.add(
        "auc_matrix",
        auc_matrix_figure(matrix, classes=classes),
        "AUC of each pair of classes, ranked by s / (s + b), with its error: the darker, the better "
        "are they separated.",
    )


def reweighted(run: RunContents, figures: FigureFolder) -> Section:
    """Draw the spectra of the training jets before and after their reweighting."""
    title = "Weights of the training jets"
    stored = run.result(Reweighting)
    if stored is None:
        return Section(title, "")
    drawn = [
        figures.add(
            f"reweight_{found.observable}",
            spectra_figure(
                found.observable,
                found.edges,
                found.before,
                found.after,
                found.errors,
                classes=stored.classes,
            ),
            f"Closure of the reweighting in {found.observable}. Spectra of the training jets of each "
            "class with their original weights (above) and with the new ones (below), with counting "
            "errors.",
        )
        for found in stored.spectra
    ]
    words = (
        f"The training jets were weighted so that {', '.join(stored.observables)} of all classes have "
        "the same spectrum, the harmonic mean of those of the classes. Validation and test jets keep "
        f"their weights. Jets with the largest factor, {stored.maximum:g}: {stored.num_capped:,}; with "
        f"the weight 0, where another class has no jets: {stored.num_lost:,}. The distance is the "
        "largest total-variation distance between two classes, with counting noise."
    )
    body = paragraph(words) + table(stored.rows()) + table(stored.closure_rows())
    return Section(title, f'{body}<div class="figures">{"".join(drawn)}</div>')


def other_samples(run: RunContents, figures: FigureFolder) -> Section:
    """Compare the numbers of evaluations on other jets, if there were any."""
    if not run.others:
        return Section("Other samples", "")
    own = f"test {run.noun}"
    tables = dict(run.others) if run.table is None else {own: run.table, **run.others}
    names = dict.fromkeys(name for table in tables.values() for name in table if "[" not in name)
    rows = [["", *tables], [run.noun, *(f"{sum(table.counts):,}" for table in tables.values())]]
    for name in names:
        found = (str(table[name]) if name in table else "" for table in tables.values())
        rows.append([describe(name), *found])
    words = "Metrics of the same tagger on other jets, beside those of its own test jets."
    return Section("Other samples", paragraph(words) + table(rows))


def reproduction(run: RunContents, figures: FigureFolder) -> Section:
    """Give commands, configuration and environment."""
    title = "Reproduce"
    if not run.config_text:
        body = absent(_why(run, CONFIG_FILE), "no command to reproduce this run")
    else:
        folder, again = shlex.quote(str(run.path)), shlex.quote(f"{run.path}_again")
        commands = [
            f"pcloud train --config {folder}/config.yaml --out {again}",
            *([] if run.is_pretraining else [f"pcloud evaluate {again}"]),
            f"pcloud report {again}",
        ]
        body = f"<pre><code>{for_html(chr(10).join(commands))}</code></pre>"
        body += details("Configuration", f"<pre><code>{for_html(run.config_text)}</code></pre>")
    body += _provenance(run)
    if run.environment:
        body += details("Environment", table(_flatten(run.environment), header=False))
    else:
        body += absent(_why(run, ENVIRONMENT_FILE), "no versions and machine")
    return Section(title, body)


def _provenance(run: RunContents) -> str:
    """Jets of the run with their fingerprints, and what to cite."""
    try:
        stored = stored_fingerprints(RunFolder(run.path).fingerprint)
    except (FileNotFoundError, InputError):  # a folder with results alone, or damaged
        stored = {}
    parts = []
    if stored:
        noun = run.noun
        rows = [["split", noun, "fingerprint"]]
        rows += [
            [SPLIT_NAMES[n], f"{print_.jets:,}", print_.content] for n, print_ in stored.items()
        ]
        words = (
            f"The fingerprint is a sum of hashes of the {noun}: equal {noun} have an equal one, in any "
            "order and under any name of a file."
        )
        parts += [table(rows), paragraph(words, "note")]
    version = run.environment.get("pcloud")
    cite = f"pcloud{f' {version}' if version else ''} (CITATION.cff)"
    with suppress(UnknownNameError):
        paper = model_info(str(run.config.get("model"))).paper
        if re.fullmatch(r"(arXiv:)?[\w.\-/]+", paper) and paper[0].isdigit():
            cite += f", the network arXiv:{paper}"
    return "".join(parts) + paragraph(f"To cite: {cite}, and the data.")


MakeSection = Callable[[RunContents, FigureFolder], Section]

SECTIONS: Sequence[MakeSection] = (
    results,
    generation,
    discrimination,
    anomaly,
    confusion,
    discriminants,
    regression,
    particles,
    calibration,
    uncertainty,
    taylor,
    attribution,
    images,
    robustness,
    shift,
    comparison,
    training,
    reweighted,
    other_samples,
    reproduction,
)
"""Sections of the page, in their order; a section without a body is left out. The first is made last,
and shows figures of the others."""


def drawn_section(make: MakeSection, run: RunContents, figures: FigureFolder) -> Section:
    """Make a section; if the values in the files cannot be drawn, warn and leave it out."""
    try:
        return section_with_noun(make(run, figures), run.noun)
    except (
        ValueError,  # InputError too
        ArithmeticError,
        LookupError,
        TypeError,
        MemoryError,
    ) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        warnings.warn(
            f"{run.path}: its files have values that the section {make.__name__!r} cannot show "
            f"({reason[:300]}); the report leaves this out",
            UnreadableFileWarning,
            stacklevel=2,
        )
        return Section("", "")


def all_sections() -> list[MakeSection]:
    """Sections of pcloud and, before the last one, those of installed studies."""
    further = [study.section for study in further_studies().values() if hasattr(study, "section")]
    return [*SECTIONS[:-1], *further, SECTIONS[-1]]


def test_jets(number: int, noun: str) -> str:
    """Number of test jets, or of other data by their noun, for a headline."""
    return number_of(number, f"test {noun.removesuffix('s')}")


def _tile(name: str, entry: Measured) -> str:
    value, _, error = (str(entry), "", "") if entry.limit else str(entry).partition(" ")
    small = f" <small>{error}</small>" if error else ""
    foot = entry.method
    if entry.bootstrap is not None:
        foot = f"bootstrap ± {str(Measured(entry.value, entry.bootstrap)).partition(' ± ')[2]}"
    return (
        f"<div><dt>{subscripts(describe(name))}</dt><dd>{for_html(value)}{small}"
        f"<span>{for_html(foot)}</span></dd></div>"
    )


def _training_words(run: RunContents) -> str:
    curves = run.history.curves()
    epochs = max(len(curve[0]) for curve in curves.values())
    words = number_of(epochs, "epoch")
    if "seconds" in curves:
        words += f" in {duration(float(np.sum(curves['seconds'][1])))}"
    if "val_loss" in curves:
        at, loss = curves["val_loss"]
        words += f"; lowest validation loss {loss.min():.4f}, after epoch {at[loss.argmin()]:g}"
    return words + "."


def _warnings(run: RunContents) -> list[str]:
    """Warnings with which the training ended, as sentences."""
    found = run.environment.get("warnings", [])
    texts = [str(text) for text in found] if isinstance(found, list) else []
    return [f"Warning: {text}." for text in texts]


def _why(run: RunContents, file: str) -> str:
    return f"{file} {run.missing.get(file, 'has no such columns')}"


def _flatten(values: dict[str, Any]) -> list[list[str]]:
    rows = []
    for name, value in values.items():
        if isinstance(value, dict):
            rows += _flatten(value)
        elif value is not None:
            rows.append([str(name), str(value)])
    return rows
