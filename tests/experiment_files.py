"""Small files laid out as experiments lay them out, (a) to (f) of docs/schemas.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import uproot

from tests.training.conftest import make_jets

FIRST_EVENT = 2**63 + 1  # neither float64 nor int64 holds the numbers


class Particles:
    """Particles of some jets, sorted by pt, and quantities that experiments store.

    Parameters
    ----------
    number : int
        Number of jets.
    """

    def __init__(self, number: int) -> None:
        rng = np.random.default_rng(7)
        jets = make_jets(number, seed=7)
        p4 = jets.p4[ak.argsort(-jets.p4.pt, axis=1)]
        self.number = number
        self.label = ak.to_numpy(jets.label)
        self.counts = ak.to_numpy(ak.num(p4))
        self.px, self.py, self.pz, self.energy = (p4[name] for name in ("px", "py", "pz", "E"))
        self.pt, self.eta, self.phi = (
            ak.values_astype(ak.without_parameters(values), np.float32)
            for values in (p4.pt, p4.eta, p4.phi)
        )
        total = [ak.to_numpy(ak.sum(p4[name], axis=1)) for name in ("E", "px", "py", "pz")]
        energy, px, py, pz = (values.astype(np.float64) for values in total)
        self.jet_energy = energy
        self.jet_pt = np.hypot(px, py)
        self.jet_eta = np.arcsinh(pz / self.jet_pt)
        self.jet_phi = np.arctan2(py, px)
        self.jet_mass = np.sqrt(np.maximum(0, energy**2 - px**2 - py**2 - pz**2))
        total_number = int(self.counts.sum())
        self.charge = self.lists(rng.integers(-1, 2, total_number).astype(np.int32))
        self.d0, self.dz = (self.lists(rng.normal(0, 0.1, total_number)) for _ in range(2))
        self.d0_err, self.dz_err = (
            self.lists(rng.uniform(0.01, 0.1, total_number)) for _ in range(2)
        )
        kinds = np.array([211, -211, 130, 22, 11, -13], dtype=np.int32)
        self.pid = self.lists(rng.choice(kinds, total_number))
        weight = rng.lognormal(0, 0.5, number)
        self.weight = np.where(rng.random(number) < 0.05, -weight, weight)
        self.event = np.arange(number, dtype=np.uint64) + np.uint64(FIRST_EVENT)
        self.rng = rng

    def lists(self, values: np.ndarray) -> ak.Array:
        """Values per particle as a list for each jet; float64 becomes float32."""
        values = values.astype(np.float32) if values.dtype == np.float64 else values
        return ak.unflatten(values, self.counts)


def write_tree(path: Path, name: str, columns: dict[str, Any], kind: str = "mktree") -> None:
    arrays = {key: ak.Array(value) for key, value in columns.items()}
    with uproot.recreate(path) as file:
        make = getattr(file, kind)
        if kind == "mkrntuple":
            make(name, arrays)
        else:
            make(name, {key: ak.type(value).content for key, value in arrays.items()}).extend(
                arrays
            )


def write_weaver(folder: Path, number: int) -> list[Path]:
    """(a) Twelve files of weaver with one class each."""
    p = Particles(number)
    paths = []
    flags = {"ChargedHadron": 211, "NeutralHadron": 130, "Photon": 22, "Electron": 11, "Muon": 13}
    particle = {"pt": p.pt, "eta": p.eta, "phi": p.phi, "energy": p.energy, "charge": p.charge}
    particle |= {"pid": p.pid, "d0": p.d0, "dz": p.dz, "d0err": p.d0_err, "dzerr": p.dz_err}
    particle |= {
        f"is{n}": ak.values_astype(abs(p.pid) == number_of_kind, np.float32)
        for n, number_of_kind in flags.items()
    }
    jet = {"jet_pt": p.jet_pt, "jet_eta": p.jet_eta, "jet_phi": p.jet_phi}
    jet |= {"jet_energy": p.jet_energy, "jet_sdmass": p.jet_mass, "genWeight": p.weight}
    jet |= {"event": p.event, "run": np.ones(number, np.uint32)}
    for label, name in enumerate(("QCD", "Top")):
        for part, rows in enumerate(np.array_split(np.flatnonzero(p.label == label), 6)):
            columns = {"pfcand": ak.zip({n: v[rows] for n, v in particle.items()})}
            columns |= {n: v[rows] for n, v in jet.items()}
            columns |= {f"label_{n}": np.full(len(rows), n == name) for n in ("QCD", "Top")}
            paths.append(folder / f"{name}_{part}.root")
            write_tree(paths[-1], "Events", columns)
    return paths


class Events:
    """Events of 0 to 3 jets.

    Parameters
    ----------
    p : Particles
        Their jets.
    """

    def __init__(self, p: Particles) -> None:
        counts = p.rng.integers(0, 4, p.number)
        stop = int(np.searchsorted(np.cumsum(counts), p.number, side="right"))
        self.counts = np.append(counts[:stop], p.number - counts[:stop].sum())
        self.number = len(self.counts)
        self.event = p.event[: self.number]
        self.weight = p.rng.lognormal(0, 0.5, self.number).astype(np.float32)

    def lists(self, values: Any) -> ak.Array:
        """Values per jet as a list for each event."""
        return ak.unflatten(ak.Array(values), self.counts)


def write_events(folder: Path, number: int) -> list[Path]:
    """(b) Events with lists of lists, RNTuple and Parquet."""
    p = Particles(number)
    events = Events(p)
    columns: dict[str, Any] = {"event": events.event, "weight": events.weight}
    jet = {"pt": p.jet_pt, "eta": p.jet_eta, "phi": p.jet_phi, "mass": p.jet_mass}
    jet |= {"isTop": p.label.astype(np.int32)}
    particle = {"pt": p.pt, "eta": p.eta, "phi": p.phi, "e": p.energy, "charge": p.charge}
    columns |= {f"jet_{name}": events.lists(values) for name, values in jet.items()}
    columns |= {f"jet_const_{name}": events.lists(values) for name, values in particle.items()}
    paths = [folder / "events_rntuple.root", folder / "events.parquet"]
    write_tree(paths[0], "Events", columns, "mkrntuple")
    ak.to_parquet(ak.Array(columns), paths[1])
    return paths


def write_pfnano(folder: Path, number: int) -> list[Path]:
    """(c) NanoAOD whose candidates are assigned to jets by indices; some are in no jet."""
    p = Particles(number)
    events = Events(p)
    others = p.rng.integers(0, 5, events.number)  # first in each event

    def candidates(values: ak.Array, other: float) -> ak.Array:
        own = ak.flatten(events.lists(values), axis=2)
        alone = ak.unflatten(np.full(others.sum(), other, np.float32), others)
        return ak.values_astype(ak.concatenate([alone, own], axis=1), np.float32)

    pt = events.lists(p.pt)
    jets = {"pt": p.jet_pt, "eta": p.jet_eta, "phi": p.jet_phi, "mass": p.jet_mass}
    jets = {name: values.astype(np.float32) for name, values in jets.items()}
    jets["hadronFlavour"] = 5 * p.label.astype(np.int32)
    quantities = {"pt": candidates(p.pt, 1), "eta": candidates(p.eta, 0)}
    quantities |= {"phi": candidates(p.phi, 0), "mass": candidates(0 * p.pt, 0)}
    quantities |= {"charge": ak.values_astype(candidates(p.charge, 0), np.int32)}
    quantities |= {"d0": candidates(p.d0, 0)}
    jet_index = ak.broadcast_arrays(ak.local_index(pt, axis=1), pt)[0]
    index = ak.local_index(ak.flatten(pt, axis=2), axis=1) + others
    columns = {
        "event": events.event,
        "run": np.ones(events.number, np.uint32),
        "genWeight": events.weight,
        "FatJet": ak.zip({name: events.lists(values) for name, values in jets.items()}),
        "PFCands": ak.zip(quantities),
        "FatJetPFCands": ak.zip(
            {
                "jetIdx": ak.values_astype(ak.flatten(jet_index, axis=2), np.int32),
                "pFCandsIdx": ak.values_astype(index, np.int32),
            }
        ),
    }
    write_tree(folder / "pfnano.root", "Events", columns)
    return [folder / "pfnano.root"]


def write_ftag(folder: Path, number: int) -> list[Path]:
    """(d) Compound data sets of ATLAS: padded tracks, flavours 0, 4, 5, 15, MeV."""
    p = Particles(number)
    slots = 15
    valid = np.arange(slots) < p.counts[:, None]
    columns = {"pt": 1e3 * p.pt, "eta": p.eta, "phi": p.phi, "d0": p.d0, "z0SinTheta": p.dz}
    columns |= {"d0Uncertainty": p.d0_err, "qOverP": p.charge / (1e3 * p.pt)}
    small = {"d0Uncertainty": "f2"}
    kinds = [(name, small.get(name, "f4")) for name in columns]
    tracks = np.zeros((number, slots), [*kinds, ("numberOfPixelHits", "u1"), ("valid", "?")])
    for name, values in columns.items():
        padded = ak.to_numpy(ak.fill_none(ak.pad_none(values, slots, clip=True), np.nan))
        tracks[name] = padded
    tracks["numberOfPixelHits"] = np.where(valid, 3, 0)
    tracks["valid"] = valid
    other = p.rng.choice([0, 4, 15], number)
    jets = np.zeros(
        number,
        [(n, "f4") for n in ("pt_btagJes", "eta_btagJes", "mass", "mcEventWeight")]
        + [("HadronConeExclTruthLabelID", "i4"), ("eventNumber", "i8")],
    )
    jets["pt_btagJes"], jets["eta_btagJes"] = 1e3 * p.jet_pt, p.jet_eta
    jets["mass"], jets["mcEventWeight"] = 1e3 * p.jet_mass, p.weight
    jets["HadronConeExclTruthLabelID"] = np.where(p.label == 1, 5, other)
    jets["eventNumber"] = 2**53 + np.arange(number)
    with h5py.File(folder / "ftag.h5", "w") as file:
        file.create_dataset("jets", data=jets, compression="gzip")
        file.create_dataset("tracks", data=tracks, compression="gzip")
    return [folder / "ftag.h5"]


def write_two_collections(folder: Path, number: int) -> list[Path]:
    """(e) Candidates and secondary vertices."""
    p = Particles(number)
    vertices = p.rng.poisson(1.0, number)
    total = vertices.sum()
    sv = {"pt": p.rng.exponential(30, total), "eta": p.rng.normal(0, 1, total)}
    sv |= {"phi": p.rng.uniform(-3, 3, total), "mass": p.rng.exponential(1, total)}
    sv |= {"dlen": p.rng.exponential(1, total)}
    pf = {"pt": p.pt, "eta": p.eta, "phi": p.phi, "e": p.energy, "charge": p.charge, "d0": p.d0}
    columns = {
        "pf": ak.zip(pf),
        "sv": ak.zip({name: ak.unflatten(values, vertices) for name, values in sv.items()}),
        "fj_pt": p.jet_pt,
        "fj_eta": p.jet_eta,
        "gen_pt": p.jet_pt * p.rng.normal(1, 0.1, number),
        "label": p.label.astype(np.int32),
        "w": p.weight,
    }
    write_tree(folder / "twocoll.root", "tree", columns)
    return [folder / "twocoll.root"]


def write_eight_classes(folder: Path, number: int) -> list[Path]:
    """(f) Eight classes."""
    p = Particles(number)
    particle = {"px": p.px, "py": p.py, "pz": p.pz, "energy": p.energy, "charge": p.charge}
    particle |= {"d0": p.d0, "dz": p.dz, "d0err": p.d0_err, "dzerr": p.dz_err, "pid": p.pid}
    names = ("QCD", "Hbb", "Hcc", "Hgg", "Wqq", "Zqq", "Tbqq", "Tbl")
    label = 4 * p.label + p.rng.integers(0, 4, number)
    columns = {"part": ak.zip(particle), "w": p.weight, "event": p.event}
    columns |= {"jet_pt": p.jet_pt, "jet_eta": p.jet_eta, "jet_sdmass": p.jet_mass}
    columns |= {f"label_{name}": label == i for i, name in enumerate(names)}
    write_tree(folder / "eight.root", "tree", columns)
    return [folder / "eight.root"]
