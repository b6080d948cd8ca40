"""An event as one cloud: leptons, jets and missing energy as particles, and one label.

    python examples/event_cloud.py [--epochs 5] [--events 2000] [--score NANOAOD.root]

Events of Z bosons and of top pairs are made with the names of NanoAOD. `--score` scores a file, too.
"""

import argparse

import awkward as ak
import numpy as np
import uproot

import pcloud

KINDS = ("Electron", "Muon", "Jet", "MET")
COLUMNS = ("pt", "eta", "phi", "mass", "charge", "btagCSVV2")
FEATURES = ["kin", "charge", "btag", *(f"kind == {i}" for i in range(len(KINDS)))]


def clouds(events: ak.Array) -> ak.Array:
    """Events as jets of pcloud, from columns such as ``Muon_pt``; what a kind lacks is 0."""
    lists = {n: events[n] if events[n].ndim > 1 else events[n][:, None] for n in events.fields}
    parts = []
    for number, kind in enumerate(KINDS):
        zero = 0 * lists[f"{kind}_pt"]
        part = {name: lists.get(f"{kind}_{name}", zero) for name in COLUMNS}
        parts.append(ak.zip(part | {"kind": zero + number}))
    every = ak.values_astype(ak.concatenate(parts, axis=1), np.float32)
    every["mass"] = np.maximum(every.mass, 0)  # rounding, in NanoAOD
    cloud = {"p4": ak.zip({n: every[n] for n in COLUMNS[:4]}, with_name="Momentum4D")}
    cloud |= {"charge": every.charge, "btag": np.maximum(every.btagCSVV2, 0), "kind": every.kind}
    cloud |= {"label": events.label} if "label" in events.fields else {}
    return ak.zip(cloud, depth_limit=1)


def make_events(number: int, seed: int = 0) -> ak.Array:
    """Events of Z bosons (label 0) and of top pairs (label 1), with b jets and missing energy."""
    rng = np.random.default_rng(seed)
    top = rng.random(number) < 0.5
    electrons = 2 * rng.integers(0, 2, number)
    counts = {"Electron": electrons, "Muon": 2 - electrons}
    counts["Jet"] = rng.poisson(np.where(top, 3.0, 1.0))
    events = {"label": top.astype(np.int64)}
    for kind, lengths in counts.items():
        is_top, size = np.repeat(top, lengths), lengths.sum()
        values = {"pt": 25 + rng.exponential(30 + 10 * is_top), "eta": rng.normal(0, 1.2, size)}
        values |= {"phi": rng.uniform(-np.pi, np.pi, size), "mass": np.full(size, 0.1)}
        values["charge"] = np.where(np.arange(size) % 2, 1, -1) * (kind != "Jet")
        values["btagCSVV2"] = rng.beta(1 + 2 * is_top, 2) * (kind == "Jet")
        events |= {f"{kind}_{name}": ak.unflatten(v, lengths) for name, v in values.items()}
    events["MET_pt"] = rng.exponential(np.where(top, 60.0, 15.0)) + 1
    events["MET_phi"] = rng.uniform(-np.pi, np.pi, number)
    return ak.Array(events)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--events", type=int, default=2000)
    parser.add_argument("--score", help="NanoAOD file to score")
    options = parser.parse_args()
    sample = clouds(make_events(options.events))
    sample.attrs["classes"] = ["Z", "top pair"]
    network = {"model": "particlenet_lite", "features": FEATURES, "batch_size": 64}
    run = pcloud.train(data=sample, out="runs/events", epochs=options.epochs, **network)
    print(run.evaluate(num_bootstrap=0))  # of the test events of the sample
    if options.score:
        names = [f"{kind}_{name}" for kind in KINDS for name in COLUMNS]
        events = uproot.open(options.score)["Events"].arrays(filter_name=names)
        print(f"mean score of top pairs: {run.predict(clouds(events))[:, 1].mean():.3f}")


if __name__ == "__main__":
    main()
