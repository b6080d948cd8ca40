"""Quark/gluon sample of EnergyFlow: gluons and light quarks (u, d, s) from Pythia 8.

The twenty files of 100 000 jets are split as the authors recommend: 1.6 M for training, 200 k for
validation and 200 k for testing.
"""

from __future__ import annotations

from pcloud.datasets.info import DatasetInfo, Download, Split
from pcloud.io.known_schemas import SCHEMAS

_MD5 = (
    "f5d052f10a79c6e8b9382637aca0ef52",
    "f6a1081c76a47386bc11abcf0e499552",
    "2628367c57ba598f4473c870d1381041",
    "dd3ad998b0a1bd9acea2ecf029a8a921",
    "a56d6bb98361b55382aa8c06225e05d8",
    "266c688e9e6ff1cd20840692d45eaaf8",
    "95a9f7e555fb7b1073967056b9030b11",
    "4ae72aaabe121bd489532c99a6bdde95",
    "a2b80bd4199468fde4f302d346a8c9d8",
    "1157cbace488c70c9dcfc250f3345b06",
    "4b424b553e1e7f852e47ea9904bc2dcf",
    "ccd29c9d1abb34dd7cfb48cfc57a9695",
    "1ed1f6f19fb8439c9811dced41d5127d",
    "af45818c361e11ca9b3adaba30db06ad",
    "488ced3ea409d7e2b196da67f7d182ec",
    "c5e083019de6cd6a0ef12bcec1ea566b",
    "48605d55edff665f0c7d2f800b5a622e",
    "8fd47760957b5fd9adec9048b50cd1a9",
    "d43d611484b55391e891ba31c605f792",
    "6753508e34014cc69714a01fca20ec38",
)


def _split(first: int, last: int) -> Split:
    numbers = range(first, last + 1)
    downloads = tuple(
        Download(f"QG_jets_{i}.npz" if i else "QG_jets.npz", _MD5[i]) for i in numbers
    )
    return Split(tuple(d.name for d in downloads), 100_000 * len(downloads), downloads)


INFO = DatasetInfo(
    name="quark_gluon",
    description="Light quark and gluon jets with particle types, 14 TeV, pt 500-550 GeV",
    splits={"train": _split(0, 15), "val": _split(16, 17), "test": _split(18, 19)},
    classes=tuple(SCHEMAS["energyflow"].classes),
    schema="energyflow",
    url="https://zenodo.org/records/3164691",
    reference="arXiv:1810.05165",
    folders=("quark_gluon", ""),
)
