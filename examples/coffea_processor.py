"""Score the jets of events inside a coffea processor.

    python examples/coffea_processor.py [--run runs/coffea] [--epochs 3] [--events 500]

The events have the fields of NanoEvents of PFNano, `FatJet` with its `constituents.pf`, and are made from
the embedded sample. Without coffea the same class processes awkward arrays.
"""

import argparse

import awkward as ak
import numpy as np

import pcloud

try:
    from coffea.processor import ProcessorABC
except ImportError:
    ProcessorABC = object


class TaggerProcessor(ProcessorABC):
    """Scores of the jets of events with a trained run; counts events with a tagged leading jet."""

    def __init__(self, run: str, working_point: float = 0.5) -> None:
        self.run = run  # a folder, which is sent to the workers
        self.working_point = working_point

    def process(self, events: ak.Array) -> dict[str, ak.Array | float]:
        """Scores in the lists of the jets, and a sum over events."""
        run = pcloud.Run(self.run)
        is_signal = run.classes.index("top")
        candidates = events.FatJet.constituents.pf  # events * jets * particles
        scores = run.predict(candidates)[..., is_signal]  # events * jets

        leading = ak.firsts(candidates)  # None in events without jets
        is_central = abs(ak.firsts(events.FatJet).eta) < 1
        leading = ak.mask(leading, ak.fill_none(is_central, False))
        leading_score = run.predict(leading)[..., is_signal]  # NaN where there is no jet
        tagged = np.asarray(leading_score) > self.working_point
        sum_of_tagged = float(ak.sum(events.genWeight[tagged]))
        return {"scores": scores, "leading_score": leading_score, "tagged": sum_of_tagged}

    def postprocess(self, accumulator: dict) -> dict:
        """Leave the sums as they are."""
        return accumulator


def make_events(number: int, seed: int = 0) -> ak.Array:
    """Events of 0 to 3 jets of the embedded sample, with the fields of NanoEvents."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 4, number)
    p4 = pcloud.load_dataset("simulated", "test").p4[: counts.sum()]
    particles = ak.zip(
        {n: getattr(p4, n) for n in ("pt", "eta", "phi", "mass")}, with_name="PFCand"
    )
    total = ak.sum(p4, axis=1)
    jets = ak.zip({"pt": total.pt, "eta": total.eta}, depth_limit=1)
    jets["constituents"] = ak.zip({"pf": particles}, depth_limit=1)
    return ak.zip(
        {"FatJet": ak.unflatten(jets, counts), "genWeight": rng.lognormal(0, 0.3, number)},
        depth_limit=1,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", default="runs/coffea")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--events", type=int, default=500)
    options = parser.parse_args()
    pcloud.train(data="simulated", model="pfn", out=options.run, epochs=options.epochs)
    output = TaggerProcessor(options.run).process(make_events(options.events))
    print(f"scores: {output['scores'].type}")
    print(f"sum of the weights of events with a tagged leading jet: {output['tagged']:.1f}")


if __name__ == "__main__":
    main()
