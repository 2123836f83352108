"""The command `sparse-rcnn`."""
from __future__ import annotations

import sys

from sparse_rcnn_mm.cli.commands import run


def main() -> int:
    """Run the command line; returns the exit status."""
    return run(sys.argv[1:])


if __name__ == '__main__':
    sys.exit(main())
