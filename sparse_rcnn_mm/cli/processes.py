"""Starts one process per GPU with torchrun."""
from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

import sparse_rcnn_mm
from sparse_rcnn_mm.errors import UserError


def add_gpus_argument(parser: argparse.ArgumentParser) -> None:
    """Add the argument --gpus for `in_processes`."""
    parser.add_argument('--gpus', type=int, metavar='N', help='start N processes here, one for each GPU (without GPUs, '
                        'on the CPU); several nodes: the same on each, with NNODES, NODE_RANK and MASTER_ADDR set')


def in_processes(command: str, argv: Sequence[str] | None, args: argparse.Namespace) -> None:
    """If --gpus is given, replace this process by torchrun, which starts the same command in N processes.

    Raises:
        UserError: there are too few GPUs, or the address of the first node is missing.
    """
    if args.gpus is None or args.launcher != 'none':
        return
    argv = sys.argv[1:] if argv is None else argv
    environment = {**os.environ, 'OMP_NUM_THREADS': os.environ.get('OMP_NUM_THREADS', '1')}
    paths = [str(Path(sparse_rcnn_mm.__file__).parents[1]), environment.get('PYTHONPATH', '')]
    environment['PYTHONPATH'] = os.pathsep.join(filter(None, paths))  # for a clone that is not installed
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *torchrun(args.gpus), '-m', 'sparse_rcnn_command', command, *argv,
                               '--launcher', 'pytorch'], environment)


def torchrun(processes: int) -> list[str]:
    """The command line of torchrun for `processes` processes on this node."""
    if processes < 1:
        raise UserError(f'--gpus {processes} must be at least 1')
    if torch.cuda.is_available() and processes > torch.cuda.device_count():
        raise UserError(f'--gpus {processes}: this machine has {torch.cuda.device_count()}')
    nodes, address, port = (os.environ.get(name) for name in ('NNODES', 'MASTER_ADDR', 'PORT'))
    if nodes in (None, '1') and not port:
        meeting = ['--standalone']  # uses a free port, so that two jobs on one machine do not conflict
    elif nodes not in (None, '1') and not address:
        raise UserError(f"with NNODES={nodes} set MASTER_ADDR to the first node's address")
    else:
        meeting = [f'--nnodes={nodes or 1}', f'--node_rank={os.environ.get("NODE_RANK", 0)}',
                   f'--master_addr={address or "127.0.0.1"}', f'--master_port={port or 29500}']
    return ['-m', 'torch.distributed.run', *meeting, f'--nproc_per_node={processes}']
