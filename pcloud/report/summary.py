"""The sentence at the top of a report, and what each of its numbers means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pcloud.errors import InputError
from pcloud.report.blocks import duration
from pcloud.report.contents import RunContents
from pcloud.report.cost import run_cost
from pcloud.training.fingerprint import stored_fingerprints
from pcloud.training.run_folder import RunFolder
from pcloud.words import number_of

__all__ = ["meaning", "summary_words"]

_MEANINGS = {
    "auc": "The probability that a {signal} has a higher score than a {background}: 0.5 for a random "
    "choice, 1 for perfect separation.",
    "auc_ovr": "The area under the ROC curve of each class against all others, averaged over classes.",
    "auc_ovo": "The area under the ROC curve of each pair of classes, averaged over pairs.",
    "accuracy": "The fraction of {noun}s whose most probable class is the true one.",
    "rejection": "One in how many {background} {noun}s passes the cut that {level} of the {signal} "
    "{noun}s pass.",
    "ece": "The mean distance between the predicted probability and the fraction of correct "
    "predictions; its expectation is above 0 also for perfect probabilities.",
    "brier": "The mean squared distance between the probabilities and the true class: lower is better.",
    "log_loss": "The mean negative logarithm of the probability of the true class: lower is better.",
}


def summary_words(run: RunContents) -> str:
    """One sentence: which network, trained on what for how long, and tested on what."""
    if not run.config:
        return ""
    parameters, operations, jets = None, None, None
    try:
        folder = RunFolder(run.path)
        parameters, operations = run_cost(folder)
        jets = stored_fingerprints(folder.fingerprint).get("train")
    except (FileNotFoundError, InputError):  # a folder with results alone, or damaged
        pass
    noun = run.noun.removesuffix("s")
    size = "" if parameters is None else f"{parameters:,} parameters"
    if operations is not None:
        size += f", {operations / 1e6:.3g} MFLOP per {noun}"
    words = f"{run.config.get('model', 'A network')}{f' ({size})' if size else ''}"
    number = "" if jets is None else f"{number_of(jets.jets, noun)} of "
    if "data" in run.config:
        words += f", trained on {number}{_listed(run.config['data'])}"
    curves = run.history.curves()
    if curves:
        words += f" in {number_of(max(len(curve[0]) for curve in curves.values()), 'epoch')}"
        if "seconds" in curves:
            words += f" and {duration(float(np.sum(curves['seconds'][1])))}"
    machine = run.environment.get("gpu") or run.environment.get("cpu")
    if machine and "seconds" in curves:
        words += f" on {machine}"
    if run.table is not None and run.table.counts:
        words += f"; tested on {number_of(sum(run.table.counts), noun)}"
    return f"{words}."


def meaning(name: str, settings: Mapping[str, Any], noun: str = "jet") -> str:
    """Meaning of a quantity of the table, in one sentence; empty for those of others."""
    quantity, _, level = name.partition("@")
    text = _MEANINGS.get(quantity, "")
    signal = settings.get("signal") or "signal"
    background = settings.get("background") or "background"
    shown = f"{float(level):.0%}" if level else ""
    return text.format(signal=signal, background=background, noun=noun, level=shown)


def _listed(value: Any) -> str:
    """Names of the data; only the number of many files."""
    names = list(map(str, value)) if isinstance(value, list) else [str(value)]
    return ", ".join(names) if len(names) <= 3 else f"{len(names)} files"
