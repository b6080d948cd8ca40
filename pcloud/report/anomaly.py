"""Section of the report on an anomaly detector beside single observables."""

from __future__ import annotations

from pcloud.report.blocks import Section, paragraph, table
from pcloud.report.contents import RunContents
from pcloud.report.figures import FigureFolder
from pcloud.studies.anomaly import StoredAnomaly

__all__ = ["anomaly"]


def anomaly(run: RunContents, figures: FigureFolder) -> Section:
    """Give the numbers of the detector, and of observables as its baselines."""
    title = "Anomaly detection"
    stored = run.result(StoredAnomaly)
    if stored is None:
        return Section(title, "")
    words = (
        f"The detector learned {stored.background} jets alone, and its score is large for others. Below "
        "it, single observables of which large values count as anomalous: a detector that is no "
        "better than the number of particles, or whose score has a rank correlation near 1 with it, "
        "counts particles. Mass sculpting is the Jensen-Shannon distance of the mass of "
        f"{stored.background} jets before and after the cut; only an excess over random draws counts."
    )
    notes = "".join(paragraph(f"{note}.", "note") for note in stored.notes)
    return Section(title, paragraph(words) + table(stored.rows()) + notes)
