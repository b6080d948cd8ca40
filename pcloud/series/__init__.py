"""Series: events as records of samples, and networks on them.

A network on series is a function ``model(records) -> logits (B, C)`` of ``records (B, F, T)``.
"""

from pcloud.series.files import SeriesSchema, read_cresst, read_series
from pcloud.series.format import SeriesFormat
from pcloud.series.networks import SeriesCNN, SeriesDense, SeriesLSTM
from pcloud.series.pulses import simulate_pulses
from pcloud.series.series import Series

__all__ = [
    "Series",
    "SeriesCNN",
    "SeriesDense",
    "SeriesFormat",
    "SeriesLSTM",
    "SeriesSchema",
    "read_cresst",
    "read_series",
    "simulate_pulses",
]
