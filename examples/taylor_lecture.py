"""Taylor coefficients as in the lecture: two Gaussians, shifted, and with opposite correlations.

    python examples/taylor_lecture.py [--events 10000] [--epochs 300]

A network with 100 tanh units is trained by Adam with a learning rate of 1e-4 until 30 epochs bring no
improvement. Prints the mean absolute coefficients, for the shifted toy beside the values of the
lecture, and the area under the ROC curve of the network beside that of a logistic regression, which
cannot learn a correlation. Draws the coefficients against the epoch, and maps in the plane.
"""

import argparse
from pathlib import Path

import pcloud
from pcloud.evaluation.figures import save_figure
from pcloud.interpret.figures import course_figure, planes_figure
from pcloud.studies.taylor import PLANE_EDGES, coefficient_planes

OUT = Path("runs/taylor_lecture")
LECTURE = (0.16, 0.16, 0.07, 0.04, 0.04)  # of two shifted Gaussians, sorted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=300, help="at most")
    given = parser.parse_args()
    common = {"optimizer": "adam", "schedule": "constant", "lr": 1e-4, "weight_decay": 0.0}
    common |= {"patience": 30, "epochs": given.epochs, "keep_checkpoints": True, "progress": False}
    network = {"model": "mlp", "model_options": {"widths": [100], "activation": "tanh"}}
    for name, toy in {"shifted": {}, "correlated": {"shift": 0.5, "correlation": 0.5}}.items():
        data = pcloud.load_dataset("gaussians", n=given.events, **toy)
        run = pcloud.train(data=data, out=OUT / name, **network, **common)
        line = pcloud.train(data=data, out=OUT / f"{name}_line", model="logistic", **common)
        areas = [one.evaluate(num_bootstrap=0)["auc"] for one in (run, line)]
        print(f"{name}: AUC {areas[0]}, logistic regression {areas[1]}, {len(run.history)} epochs")
        found = run.explain().classes["signal"]
        beside = LECTURE if name == "shifted" else [None] * 5
        for (key, value), theirs in zip(found.parts["all"].items(), beside, strict=True):
            print(f"  <|t({key})|> = {value}" + (f", lecture {theirs}" if theirs else ""))
        save_figure(course_figure(found.course), OUT / f"{name}_course")
        kept = run.kept_epochs
        chosen = sorted({kept[0], min(50, kept[-1]), kept[-1]})
        planes = coefficient_planes(run, ("x1", "x2"), chosen)
        labels = {"xlabel": "x1", "ylabel": "x2", "label": "t(x1, x2)"}
        save_figure(planes_figure(planes, PLANE_EDGES, **labels), OUT / f"{name}_planes")
    print(f"figures: {OUT}")


if __name__ == "__main__":
    main()
