"""Landscape sample (top tagging reference data set): top and QCD jets."""

from __future__ import annotations

from pcloud.datasets.info import DatasetInfo, Download, Split
from pcloud.io.known_schemas import SCHEMAS

INFO = DatasetInfo(
    name="landscape",
    description="Top and QCD jets, 14 TeV, pt 550-650 GeV: the top tagging reference sample",
    splits={
        "train": Split(
            ("train.h5",),
            1_211_000,
            (Download("train.h5", "45663819f47c13724f67eb0fd80bfa5c", 1_038_496_555),),
        ),
        "val": Split(
            ("val.h5",),
            403_000,
            (Download("val.h5", "dca4b7248027618f041f9baa86d360fc", 347_378_076),),
        ),
        "test": Split(
            ("test.h5",),
            404_000,
            (Download("test.h5", "13163479dee30a5fe546e4536cc3d04d", 347_849_376),),
        ),
    },
    classes=tuple(SCHEMAS["landscape"].classes),
    schema="landscape",
    url="https://zenodo.org/records/2603256",
    reference="arXiv:1902.09914",
    folders=("landscape", ""),
)
