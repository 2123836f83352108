"""The gradient of 3x3 kernels by Winograd's algorithm (arXiv 1509.09308), as matrix products.

The gradient of the kernels is a convolution of the image with the gradient of the result. The latter is cut into tiles
of 4x4, each of which meets 6x6 cells of the image. This is F(3x3, 4x4): 36 multiplications per tile instead of 144.
"""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# Transforms for the points 0, 1, -1, 2, -2 and infinity, as in the paper's F(4x4, 3x3).
IMAGE = torch.tensor([[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0], [0, -2, -1, 2, 1, 0],
                      [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]], dtype=torch.float64)
GRADIENT = torch.tensor([[6, 0, 0, 0], [-4, -4, -4, -4], [-4, 4, -4, 4], [1, 2, 4, 8], [1, -2, 4, -8],
                         [0, 0, 0, 24]], dtype=torch.float64) / 24
KERNEL = torch.tensor([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 1]], dtype=torch.float64)
# Size of the tiles that are processed at a time, to save memory.
BAND_BYTES = 2**24


def winograd_weight_gradient(x: Tensor, grad: Tensor) -> Tensor:
    """The gradient of the kernels of a 3x3 convolution with stride 1 and padding 1.

    Args:
        x: (B, C, H, W) the images.
        grad: (B, D, H, W) the gradient of the result.

    Returns:
        (D, C, 3, 3).
    """
    height, width = grad.shape[2:]
    down, across = math.ceil(height / 4), math.ceil(width / 4)
    below, right = 4 * down - height, 4 * across - width
    rows = math.ceil(BAND_BYTES / (36 * across * x.shape[1] * x.element_size()))
    products = grad.new_zeros(6, 6, grad.shape[1], x.shape[1])
    for image, cells in zip(x.permute(0, 2, 3, 1), grad.permute(0, 2, 3, 1), strict=True):
        image = F.pad(image, (0, 0, 1, right + 1, 1, below + 1))
        cells = F.pad(cells, (0, 0, 0, right, 0, below))
        for top in range(0, 4 * down, 4 * rows):
            image_tiles = _transform(IMAGE, image[top:top + 4 * rows + 2])
            gradient_tiles = _transform(GRADIENT, cells[top:top + 4 * rows])
            for column in range(6):
                products[column].baddbmm_(gradient_tiles[:, :, column].mT, image_tiles[:, :, column])
    matrix = KERNEL.to(products)
    kernels = torch.kron(matrix, matrix) @ products.flatten(2).flatten(0, 1)  # as one product, because einsum copies
    return kernels.view(3, 3, *products.shape[2:]).permute(2, 3, 1, 0)


def _transform(matrix: Tensor, cells: Tensor) -> Tensor:
    """Transform cells (H, W, C) to T tiles of 6x6, as (6, T, 6, C): rows, tiles, columns, channels."""
    matrix = matrix.to(cells)
    size, channels = matrix.shape[1], cells.shape[2]
    strips = cells.flatten(1).unfold(0, size, 4).mT  # (down, size, W * C)
    rows = cells.new_empty(6, *strips.shape[::2])
    torch.bmm(matrix.expand(len(strips), -1, -1), strips, out=rows.transpose(0, 1))
    tiles = rows.view(6, len(strips), -1, channels).unfold(2, size, 4).mT  # (6, down, across, size, C)
    return torch.matmul(matrix, tiles).view(6, -1, 6, channels)
