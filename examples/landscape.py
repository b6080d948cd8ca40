"""The top tagging reference sample (the Landscape sample) from end to end.

    python examples/landscape.py DIR [--model particlenet] [--out runs/landscape]

DIR contains train.h5, val.h5 and test.h5 from https://zenodo.org/records/2603256. The script first
checks their names, sizes and numbers of jets; `--verify` also compares the checksums. It then
trains with the published recipe, evaluates the test jets and writes a report. An interrupted script
resumes when it is started again.
"""

import argparse
import sys
from pathlib import Path

import pcloud
from pcloud.datasets import dataset_info
from pcloud.errors import InputError
from pcloud.io import count_jets
from pcloud.report import write_report


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("dir", type=Path, help="folder with train.h5, val.h5 and test.h5")
    parser.add_argument(
        "--model", default="particlenet", help="name of a model, see `pcloud models`"
    )
    parser.add_argument("--out", default="runs/landscape", help="folder of the run")
    parser.add_argument("--seed", type=int, default=1, help="seed of the training")
    parser.add_argument("--epochs", type=int, help="epochs, instead of those of the recipe")
    parser.add_argument(
        "--max-jets", type=int, help="maximum number of training jets, for a quick test"
    )
    parser.add_argument("--verify", action="store_true", help="compare checksums (minutes)")
    parser.add_argument(
        "--any-size",
        action="store_true",
        help="accept files with other numbers of jets, such as a subset",
    )
    return parser.parse_args()


def check_files(folder: Path, *, verify: bool, any_size: bool) -> None:
    """Print names, sizes and numbers of jets of the files, and check them."""
    info = dataset_info("landscape")
    for name, split in info.splits.items():
        (path,) = info.files(name, folder)
        jets = count_jets(path, info.schema)
        print(f"{path}: {jets:,} jets, {path.stat().st_size / 1e6:.0f} MB")
        if jets != split.num_jets and not any_size:
            raise InputError(
                f"{path} has {jets:,} jets, the published one {split.num_jets:,}: "
                f"download it again from {info.url}, or accept it with --any-size"
            )
    if verify:
        wrong = [str(path) for path, same in info.verify(folder).items() if not same]
        if wrong:
            raise InputError(f"files that differ from the published ones: {', '.join(wrong)}")


def main() -> None:
    options = arguments()
    check_files(options.dir, verify=options.verify, any_size=options.any_size)
    run = pcloud.train(
        data="landscape",
        data_root=str(options.dir),
        model=options.model,
        out=options.out,
        seed=options.seed,
        epochs=options.epochs,
        max_jets=options.max_jets,
    )
    table = run.evaluate()
    print(table)
    print(f"report: {write_report(run.path)}")


if __name__ == "__main__":
    try:
        main()
    except (InputError, FileNotFoundError) as error:
        sys.exit(f"landscape.py: {error}")
