"""Work by part, against numbers worked by hand."""
import torch
from mmengine.config import Config

from sparse_rcnn_mm.benchmark.measure import Predict, Result, Workload
from sparse_rcnn_mm.benchmark.parts import flops_by_part, seconds_by_part
from sparse_rcnn_mm.benchmark.report import table
from sparse_rcnn_mm.benchmark.timing import Spread
from sparse_rcnn_mm.benchmark.workload import build_model, images, samples
from sparse_rcnn_mm.models import SparseRCNN
from sparse_rcnn_mm.ops.convolutions import use_fast_conv2d

from ..models.samples import tiny_model


def tiny_run(model: SparseRCNN) -> Predict:
    model.requires_grad_(False)  # torch's counter of operations wants parameters so where there is no gradient
    return Predict(model, images(1, 64, 64), samples(1, 64, 64, num_classes=3), Workload())


def config() -> Config:
    return Config(dict(model=tiny_model()))


def test_one_stage_by_hand() -> None:
    """N = 8 proposals of C = 16 channels, D = 8 dynamic ones, 7x7 bins, FFN of 32, K = 3 classes."""
    model = build_model(config())
    flops = flops_by_part(model, tiny_run(model))
    n, c, d, bins, ffn, k = 8, 16, 8, 49, 32, 3
    attention = 4 * n * c * c + 2 * n * n * c  # four projections; queries times keys, then times values
    dynamic = n * c * 2 * c * d + 2 * n * bins * c * d + n * bins * c * c  # kernels, two convolutions, fully connected
    rest = 2 * n * c * ffn + n * c * c + n * c * k + 3 * n * c * c + n * c * 4  # FFN, class tower, box tower
    assert flops['stage 1'] == flops['stage 2'] == 2 * (attention + dynamic + rest)
    assert flops['rest'] == 0
    # The stem: a 7x7 convolution from 3 to 8 channels on 32x32 pixels. The neck: lateral 1x1 and 3x3 on 8, 4 and 2.
    assert flops['backbone'] > 2 * 49 * 3 * 8 * 32 * 32
    pixels = (64, 16, 4)
    laterals = sum(p * w * 16 for p, w in zip(pixels, (16, 32, 64), strict=True))
    assert flops['neck'] == 2 * (laterals + sum(pixels) * 9 * 16 * 16)


def test_convolutions_count_as_direct_ones() -> None:
    """One image of 32x24 and two kinds of 3x3 convolution, however they are computed."""
    net = torch.nn.Sequential(torch.nn.Conv2d(64, 80, 3, padding=1), torch.nn.Conv2d(80, 64, 3, stride=2, padding=1))
    use_fast_conv2d(net, kernel_sizes=(1, 3))
    model = build_model(config())
    model.backbone, model.neck = net, torch.nn.Identity()
    flops = flops_by_part(model, torch.no_grad()(lambda: model.backbone(torch.randn(1, 64, 32, 24))))
    assert flops['backbone'] == 2 * 9 * 64 * 80 * (32 * 24 + 16 * 12)


def test_time_by_part_adds_up() -> None:
    """A clock that ticks once a look: each of the six parts takes one tick, the rest what is between them."""
    model = build_model(config())
    ticks = iter(range(1000))
    seconds = seconds_by_part(model, tiny_run(model), lambda: float(next(ticks)))
    parts = ('backbone', 'neck', 'proposals', 'flattening', 'stage 1', 'stage 2')
    assert seconds == {**dict.fromkeys(parts, 1.), 'rest': 7.}
    assert not any(module._forward_hooks for module in model.modules())


def test_random_model_is_spread_out() -> None:
    model = build_model(config())
    boxes = model.rpn_head(None, torch.tensor([[[100., 100., 100., 100.]]])).boxes[0]
    assert (boxes >= -1e-3).all() and (boxes <= 100 + 1e-3).all()
    assert len({tuple(box) for box in boxes.tolist()}) == len(boxes)


def test_table() -> None:
    result = Result(Workload(size=(64, 96), batch=4, against='mmdet', train=True), 'a machine', Spread(1., 2., 3.),
                    parameters=1_500_000, peak_gflops=30., memory=10., flops={'backbone': 4_000_000_000, 'rest': 0},
                    part_seconds={'backbone': 0.5, 'rest': 1.5}, against_seconds=Spread(4., 4., 4.),
                    ratio=Spread(1.9, 2., 2.1))
    assert result.images_per_second == 2. and result.gflops == 6.  # a backward pass is twice the work
    text = table(result)
    for line in ('| images / s | 2 |', '| parameters | 1.50 M |', '| achieved | 6.0 GFLOP/s, 20% of the peak |',
                 '| mmdet / ours | 2.00 (1.90..2.10) |', '| backbone | 0.500 | 25% | 4.00 | 8.0 |'):
        assert line in text
