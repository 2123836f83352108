"""Messages for the user before a logger exists."""
import os
import sys


def say(*lines: str) -> None:
    """Print the lines in the first process only."""
    if int(os.environ.get('RANK', os.environ.get('SLURM_PROCID', 0))) == 0:
        print(printable('\n'.join(lines)), flush=True)


def printable(text: str) -> str:
    """With what the terminal cannot show, such as bytes of file names that are no text, as escapes."""
    encoding = sys.stdout.encoding or 'utf-8'
    return text.encode(encoding, 'backslashreplace').decode(encoding)
