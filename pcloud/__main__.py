"""Lets `python -m pcloud` be `pcloud`."""

from pcloud.cli import main

if __name__ == "__main__":
    main()
