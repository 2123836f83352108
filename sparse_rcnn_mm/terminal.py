"""Messages for the user before a logger exists."""
import os


def say(*lines: str) -> None:
    """Print the lines in the first process only."""
    if int(os.environ.get('RANK', os.environ.get('SLURM_PROCID', 0))) == 0:
        print('\n'.join(lines), flush=True)
