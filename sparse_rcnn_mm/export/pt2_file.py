"""Compiles a detector with AOTInductor to one .pt2 file, which runs with PyTorch, without this package's models."""
from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import torch

from sparse_rcnn_mm.errors import UserError, in_short
from sparse_rcnn_mm.runtime.engines import KEY

from .forms import ExportedNetwork
from .onnx_file import plain_attention, quiet
from .tracing import Tracing


@torch.no_grad()
def write_pt2(network: ExportedNetwork, metadata: dict[str, Any], path: Path, tracing: Tracing) -> None:
    """Compile the network, with a static shape, for the processor of this machine.

    Raises:
        UserError: the shape is open, or the network cannot be compiled, for example without a C++ compiler.
    """
    if tracing.size is None or tracing.batch is None:
        raise UserError('a .pt2 file has a static shape: give --static H W, and --batch N for more than 1 image')
    try:
        with quiet(), plain_attention():
            program = torch.export.export(network, tracing.example())
            torch._inductor.aoti_compile_and_package(program, package_path=str(path))
    except Exception as error:  # parts from outside can raise anything
        reason = in_short(error)
        raise UserError(f'AOTInductor cannot compile the network ({reason}): it needs a C++ compiler such as g++, and '
                        'a network that does not depend on values') from error
    with zipfile.ZipFile(path, 'a', zipfile.ZIP_STORED) as archive:
        root = archive.namelist()[0].split('/')[0]
        archive.writestr(f'{root}/extra/{KEY}', json.dumps(metadata))
