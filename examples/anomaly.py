"""Anomaly detectors that learn QCD jets alone, beside single observables, and denoised jet images.

    python examples/anomaly.py [--jets 6000] [--epochs 8]

Prints how well each detector finds top jets, and draws the error of the reconstruction against the
size of the code, and noisy images beside their reconstructions. `observable_flow` needs zuko (extra
`generative`).
"""

import argparse
from pathlib import Path

import torch

import pcloud
from pcloud.anomaly.figures import code_size_figure, images_figure
from pcloud.evaluation.figures import save_figure
from pcloud.evaluation.measured import Measured

OUT = Path("runs/anomaly")


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--jets", type=int, default=6000, help="training jets, half of them top")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--models", nargs="*", default=["cloud_autoencoder", "observable_flow"])
    parser.add_argument("--codes", type=int, nargs="+", default=[1, 2, 4, 16])
    given = parser.parse_args()
    test = pcloud.load_dataset("simulated", "test")
    qcd = next(iter(pcloud.JetLoader(pcloud.JetDataset(test[test.label == 0][:2000]), 2000)))
    inputs = qcd.x, qcd.p4, qcd.batch
    common = {"data": "simulated", "objective": "anomaly", "max_jets": given.jets, "batch_size": 64}
    common |= {"max_val_jets": given.jets // 4, "epochs": given.epochs, "progress": False}
    image = "jet_image_autoencoder"
    jobs = [(f"code_{size}", image, {"code_size": size}) for size in given.codes]
    jobs += [("denoising", image, {"code_size": 16, "input_noise": 1.0})]
    jobs += [(model, model, {}) for model in given.models]
    errors = {}
    for name, model, options in jobs:
        with torch.enable_grad():
            run = pcloud.train(model=model, model_options=options, out=OUT / name, **common)
        found = run.study("anomaly")
        print("\n".join([name, str(found), *found.notes, ""]))
        detector = run.tagger().model.eval()
        if name.startswith("code_"):
            errors[options["code_size"]] = Measured.mean(detector.scores(*inputs))
        if name == "denoising":
            images = detector.pictures(*inputs)
            noisy = images + 0.02 * torch.randn(images.shape, generator=torch.Generator())
            rows = {"jet": images, "noise": noisy, "denoised": detector.network.reconstruct(noisy)}
            save_figure(images_figure(rows), OUT / "denoising")
    save_figure(code_size_figure(errors), OUT / "code_size")
    print(f"figures: {OUT}")


if __name__ == "__main__":
    main()
