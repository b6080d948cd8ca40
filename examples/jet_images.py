"""Average images of QCD and top jets, and an image tagger compared with a tagger on clouds.

python examples/jet_images.py --out average.png
python examples/jet_images.py --data train.h5 --models image_cnn particlenet --epochs 10
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pcloud
from pcloud.evaluation.figures import save_figure
from pcloud.images import JetImages
from pcloud.interpret.cnn_figures import average_image_figure
from pcloud.nn import RaggedLayout

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--data", default="simulated", help="name of a data set, or a file")
parser.add_argument("--models", nargs="+", default=["image_cnn", "particlenet_lite"], help="models")
parser.add_argument("--epochs", type=int, default=3, help="epochs")
parser.add_argument("--max-jets", type=int, help="maximum number of jets of each split")
parser.add_argument("--out", type=Path, default=Path("average.png"), help="figure to write")
options = parser.parse_args()

simulated = options.data == "simulated"
jets = pcloud.load_dataset("simulated", "val") if simulated else pcloud.read_jets(options.data)
data = pcloud.JetDataset(jets[:2000])
images = JetImages(("pt",))(data.x, data.p4, RaggedLayout.from_ptr(data.ptr))
classes = data.classes or [str(c) for c in range(int(data.y.max()) + 1)]
save_figure(average_image_figure(images, data.y, classes), options.out.with_suffix(""))
print(f"average images of {len(data):,} jets: {options.out}")

for model in options.models:
    run = pcloud.train(
        data=options.data,
        model=model,
        out=Path("runs") / f"images_{model}",
        epochs=options.epochs,
        max_jets=options.max_jets,
        max_val_jets=options.max_jets,
        batch_size=128,
        progress=False,
    )
    if simulated:
        test = pcloud.load_dataset("simulated", "test")[: options.max_jets]
        print(f"\n{model}")
        print(pcloud.evaluate(test.label, run.predict(test), classes=run.classes))
