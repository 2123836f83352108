"""Starts torchrun for dist_train.sh and dist_test.sh, with one-sentence errors instead of torchrun's forty lines."""
from __future__ import annotations

import logging
import signal
import socket
import sys
from typing import NoReturn

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError


def main() -> None:
    logging.getLogger('torch.distributed').setLevel(logging.CRITICAL)  # it repeats what is said below
    args = run.parse_args(sys.argv[1:])
    place = f'{args.master_addr}:{args.master_port}'
    if int(args.node_rank) and not _listens(args.master_addr, int(args.master_port)):
        print(f'waiting for the first node at {place}', file=sys.stderr)
    try:
        run.run(args)
    except ChildFailedError as error:
        _end_as_child(error)
    except SignalException as error:
        sys.exit(128 + error.sigval)
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        if 'EADDRINUSE' in str(error):
            _fail(f'port {args.master_port} of this machine is in use: set PORT to another, the same on all nodes')
        if int(args.node_rank) and ('connect' in str(error) or 'timed out' in str(error)):
            _fail(f'the first node was not reached at {place} ({first}): start the script there as well, and check '
                  'MASTER_ADDR, PORT and the firewall')
        _fail(f'the processes could not be started ({type(error).__name__}: {first})')


def _listens(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=3).close()
    except OSError:
        return False
    return True


def _end_as_child(error: ChildFailedError) -> NoReturn:
    rank, failure = error.get_first_failure()
    if failure.exitcode < 0:
        name = signal.Signals(-failure.exitcode).name
        hint = ', perhaps because memory was short' if name == 'SIGKILL' else ''
        _fail(f'process {rank} was ended by {name}{hint}, so all were stopped: training goes on with --resume',
              128 - failure.exitcode)
    _fail(f'process {rank} ended with status {failure.exitcode}, so all were stopped: its message is above',
          failure.exitcode)


def _fail(message: str, status: int = 1) -> NoReturn:
    print(f'error: {message}', file=sys.stderr)
    sys.exit(status)


if __name__ == '__main__':
    main()
