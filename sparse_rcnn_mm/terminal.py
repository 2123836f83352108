"""Words for the user before any logger exists."""
import os


def say(*lines: str) -> None:
    """Print the lines once, whatever the number of processes."""
    if int(os.environ.get('RANK', os.environ.get('SLURM_PROCID', 0))) == 0:
        print('\n'.join(lines), flush=True)
