"""JetClass sample: ten classes of jets.

The files of a split are sorted by name, so that the jets are sorted by class. A range of jets is
therefore not a random sample of a split.
"""

from __future__ import annotations

from pcloud.datasets.info import DatasetInfo, Download, Split
from pcloud.io.known_schemas import SCHEMAS

_TRAIN_MD5 = (
    "de4fd2dca2e68ab3c85d5cfd3bcc65c3",
    "9722a359c5ef697bea0fbf79bf50f003",
    "1e9f66cd1f915f9d10e90ae1d7761720",
    "47348fc8985319fa4806da87500482fa",
    "6b0ce16bd93b442a8d51914466990279",
    "416e347512e716de51d392bee327b8e9",
    "e9b9c1557b1b39bf0a16e4ab631ae451",
    "5bfc6cb285ccb7680cefa9ac82ad1a2e",
    "540c1a0d66dfad78d2b363c5740ccf86",
    "668f40b3275167ff7104c48317c0ae2a",
)

INFO = DatasetInfo(
    name="jetclass",
    description="Ten classes of jets: QCD, and decays of Higgs, W, Z and top",
    splits={
        "train": Split(
            ("train_100M/*.root",),
            100_000_000,
            tuple(
                Download(f"JetClass_Pythia_train_100M_part{i}.tar", md5)
                for i, md5 in enumerate(_TRAIN_MD5)
            ),
        ),
        "val": Split(
            ("val_5M/*.root",),
            5_000_000,
            (Download("JetClass_Pythia_val_5M.tar", "7235ccb577ed85023ea3ab4d5e6160cf"),),
        ),
        "test": Split(
            ("test_20M/*.root",),
            20_000_000,
            (Download("JetClass_Pythia_test_20M.tar", "64e5156d26d101adeb43b8388207d767"),),
        ),
    },
    classes=tuple(SCHEMAS["jetclass"].classes),
    schema="jetclass",
    url="https://zenodo.org/records/6619768",
    reference="arXiv:2202.03772",
    folders=("jetclass", "JetClass/Pythia", ""),
)
