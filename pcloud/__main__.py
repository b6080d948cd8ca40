"""Entry point of ``python -m pcloud``."""

import sys

from pcloud.cli import main

if __name__ == "__main__":
    sys.exit(main())
