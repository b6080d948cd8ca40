"""Read jets and draw a top jet and a QCD jet in the plane of eta and phi.

    python examples/look_at_jets.py [FILE] [--out jets.png]

Without a file, the embedded sample is used. FILE is any file whose layout `pcloud.read_jets`
detects, with the labels 0 (QCD) and 1 (top).
"""

import argparse

import awkward as ak
import matplotlib.pyplot as plt
import numpy as np

import pcloud

COLORS = {"QCD": "#0072B2", "top": "#D55E00"}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", nargs="?", help="file of jets; by default the embedded sample")
    parser.add_argument("--out", default="jets.png", help="figure to write (default: jets.png)")
    return parser.parse_args()


def draw_jet(axes, jet, title: str, color: str) -> None:
    """Draw constituents relative to the jet axis, as discs whose area is their fraction of pT."""
    axis = ak.sum(jet.p4, axis=0)
    deta, dphi = jet.p4.deltaeta(axis), jet.p4.deltaphi(axis)
    share = jet.p4.pt / axis.pt
    axes.scatter(deta, dphi, s=3000 * np.asarray(share), color=color, alpha=0.6, lw=0.5, ec="k")
    axes.add_patch(plt.Circle((0, 0), 0.8, fill=False, ls="--", color="0.6"))
    axes.set(xlim=(-0.9, 0.9), ylim=(-0.9, 0.9), aspect="equal")
    axes.set(xlabel=r"$\Delta\eta$", ylabel=r"$\Delta\phi$ [rad]")
    axes.set_title(
        f"{title}: {len(jet.p4)} constituents,\n"
        rf"$p_T$ = {axis.pt:.0f} GeV, mass = {axis.mass:.0f} GeV",
        fontsize=10,
    )


def main() -> None:
    options = arguments()
    jets = (
        pcloud.read_jets(options.file) if options.file else pcloud.load_dataset("simulated", "test")
    )
    print(jets.type)
    mass = ak.sum(jets.p4, axis=1).mass

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 4), layout="constrained")
    for axes, name, label in ((left, "QCD", 0), (middle, "top", 1)):
        of_class = jets[jets.label == label]
        typical = np.argsort(np.abs(mass[jets.label == label] - (173 if label else 60)))[0]
        draw_jet(axes, of_class[typical], name, COLORS[name])
        print(f"{name}: {len(of_class)} jets, {ak.mean(ak.num(of_class.p4)):.1f} constituents")
        right.hist(
            mass[jets.label == label],
            bins=np.linspace(0, 260, 66),
            histtype="step",
            density=True,
            color=COLORS[name],
            label=name,
        )
    right.set(xlabel="jet mass [GeV]", ylabel="fraction of jets per GeV")
    right.legend(frameon=False)
    figure.savefig(options.out, dpi=130)
    print(f"figure: {options.out}")


if __name__ == "__main__":
    main()
