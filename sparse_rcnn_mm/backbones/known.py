"""mmdet's backbones by name, with their authors' settings and published weights."""
from __future__ import annotations

from typing import Any, NamedTuple

_TORCHVISION = 'https://download.pytorch.org/models/'
_PVT = 'https://github.com/whai362/PVT/releases/download/v2/'
_SWIN = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/'


class Known(NamedTuple):
    """A backbone.

    Attributes:
        config: the config of the backbone, without `out_indices`.
        levels: the `out_indices` of strides 4, 8, 16 and 32.
        channels: the number of channels of each of these levels.
    """
    config: dict[str, Any]
    levels: tuple[int, ...]
    channels: tuple[int, ...]


def _pretrained(address: str) -> dict[str, str]:
    return dict(type='Pretrained', checkpoint=address)


def _resnet(depth: int, weights: str) -> Known:
    """A ResNet as in the official Sparse R-CNN: batch norms and the first stage are frozen."""
    width = 1 if depth < 50 else 4
    config = dict(type='ResNet', depth=depth, frozen_stages=1, norm_cfg=dict(type='BN', requires_grad=False),
                  norm_eval=True, style='pytorch', init_cfg=_pretrained(f'{_TORCHVISION}resnet{depth}-{weights}.pth'))
    return Known(config, (0, 1, 2, 3), tuple(width * channels for channels in (64, 128, 256, 512)))


def _pvt_v2(name: str, layers: list[int], embed_dims: int = 64, **more: Any) -> Known:
    config = dict(type='PyramidVisionTransformerV2', embed_dims=embed_dims, num_layers=layers, **more,
                  init_cfg=_pretrained(f'{_PVT}pvt_v2_{name}.pth'))
    return Known(config, (0, 1, 2, 3), tuple(embed_dims * heads for heads in (1, 2, 5, 8)))


def _swin(name: str, depths: list[int]) -> Known:
    config = dict(type='SwinTransformer', embed_dims=96, depths=depths, num_heads=[3, 6, 12, 24], window_size=7,
                  drop_path_rate=0.2, convert_weights=True,
                  init_cfg=_pretrained(f'{_SWIN}swin_{name}_patch4_window7_224.pth'))
    return Known(config, (0, 1, 2, 3), (96, 192, 384, 768))


KNOWN = {
    'resnet18': _resnet(18, 'f37072fd'),
    'resnet34': _resnet(34, 'b627a593'),
    'resnet50': _resnet(50, '0676ba61'),
    'resnet101': _resnet(101, '63fe2227'),
    'resnet152': _resnet(152, '394f9c45'),
    'pvt_v2_b0': _pvt_v2('b0', [2, 2, 2, 2], embed_dims=32),
    'pvt_v2_b1': _pvt_v2('b1', [2, 2, 2, 2]),
    'pvt_v2_b2': _pvt_v2('b2', [3, 4, 6, 3]),
    'pvt_v2_b3': _pvt_v2('b3', [3, 4, 18, 3]),
    'pvt_v2_b4': _pvt_v2('b4', [3, 8, 27, 3]),
    'pvt_v2_b5': _pvt_v2('b5', [3, 6, 40, 3], mlp_ratios=(4, 4, 4, 4)),
    'swin_t': _swin('tiny', [2, 2, 6, 2]),
    'swin_s': _swin('small', [2, 2, 18, 2]),
    'mobilenet_v2': Known(
        dict(type='MobileNetV2', frozen_stages=2, norm_cfg=dict(type='BN', requires_grad=False), norm_eval=True,
             init_cfg=_pretrained('open-mmlab://mmdet/mobilenet_v2')),
        (1, 2, 4, 6), (24, 32, 96, 320)),
}
