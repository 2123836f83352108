"""One stage: who influences whom, how it starts, what its checkpoints are called."""
import math
import re

import pytest
import torch
from torch import nn

from sparse_rcnn_mm.models import DIIHead, RoIExtractor
from sparse_rcnn_mm.models.box_ops import decode_boxes
from sparse_rcnn_mm.models.roi_extractor import Pyramid
from sparse_rcnn_mm.models.structures import Proposals

from .samples import random_boxes

C = 16


def build(num_classes: int = 5) -> DIIHead:
    return DIIHead(num_classes=num_classes, in_channels=C, num_heads=4, feedforward_channels=32,
                   dynamic_conv=dict(type='DynamicConv', feat_channels=8))


def pyramid_of(batch: int) -> Pyramid:
    return RoIExtractor()([torch.randn(batch, C, math.ceil(80 / s), math.ceil(100 / s)) for s in (4, 8, 16, 32)])


@pytest.mark.parametrize('num_classes', [1, 4, C])
def test_starts_as_the_focal_loss_wants_and_writes_the_prior_nowhere_else(num_classes: int) -> None:
    """K = 4 and K = C are where the size of a parameter does not tell that it is the class bias."""
    head, prior = build(num_classes), -math.log(99)
    assert torch.allclose(head.fc_cls.bias, torch.tensor(prior))
    assert torch.allclose(head.fc_cls.bias.sigmoid(), torch.tensor(0.01))
    others = [name for name, p in head.named_parameters() if name != 'fc_cls.bias' and (p == head.fc_cls.bias[0]).any()]
    assert others == []


def test_matrices_start_xavier_uniform() -> None:
    for name, parameter in build().named_parameters():
        if parameter.dim() == 2:
            bound = math.sqrt(6 / sum(parameter.shape))
            assert parameter.abs().max() <= bound, name
            # Of n draws from +-bound, the largest is near the bound and the variance is near bound^2 / 3.
            assert parameter.abs().max() > bound * (1 - 20 / parameter.numel()), name
            assert parameter.var().item() == pytest.approx(bound**2 / 3, rel=5 / math.sqrt(parameter.numel())), name


def test_norms_start_neutral_and_attention_without_bias() -> None:
    head = build()
    for module in head.modules():
        if isinstance(module, nn.LayerNorm):
            assert (module.weight == 1).all() and (module.bias == 0).all() and module.eps == 1e-5
    attention = head.attention['attn']
    assert (attention.in_proj_bias == 0).all() and (attention.out_proj.bias == 0).all() and attention.dropout == 0


def test_forty_checkpoint_keys() -> None:
    conv = 'instance_interactive_conv'
    expected = {f'attention.attn.{key}'
                for key in ('in_proj_weight', 'in_proj_bias', 'out_proj.weight', 'out_proj.bias')}
    for module in ('attention_norm', f'{conv}.dynamic_layer', f'{conv}.norm_in', f'{conv}.norm_out', f'{conv}.fc_layer',
                   f'{conv}.fc_norm', f'{conv}_norm', 'ffn.layers.0.0', 'ffn.layers.1', 'ffn_norm', 'cls_fcs.1',
                   'reg_fcs.1', 'reg_fcs.4', 'reg_fcs.7', 'fc_cls', 'fc_reg'):
        expected |= {f'{module}.weight', f'{module}.bias'}
    expected |= {'cls_fcs.0.weight', 'reg_fcs.0.weight', 'reg_fcs.3.weight', 'reg_fcs.6.weight'}
    assert len(expected) == 40
    assert set(build().state_dict()) == expected


def test_unknown_setting_is_a_type_error() -> None:
    with pytest.raises(TypeError, match=re.escape("got an unexpected keyword argument 'num_class'")):
        DIIHead(num_class=3, dynamic_conv=dict(type='DynamicConv'))


def test_images_do_not_influence_each_other() -> None:
    head, pyramid, boxes, queries = build(), pyramid_of(3), random_boxes(3, 6), torch.randn(3, 6, C)
    before = head(pyramid, Proposals(boxes, queries))
    boxes, queries = boxes.clone(), queries.clone()
    boxes[1] += 7
    queries[1] -= 1
    for old, new in zip(before, head(pyramid, Proposals(boxes, queries)), strict=True):
        torch.testing.assert_close(new[[0, 2]], old[[0, 2]])
        assert ((new - old)[1].abs() > 1e-4).any(-1).all()


def test_proposals_of_one_image_influence_each_other_through_attention() -> None:
    head, pyramid, boxes, queries = build(), pyramid_of(1), random_boxes(1, 6), torch.randn(1, 6, C)
    before = head(pyramid, Proposals(boxes, queries)).logits
    changed = queries.clone()
    changed[0, 0] += 1
    assert ((head(pyramid, Proposals(boxes, changed)).logits - before).abs() > 1e-6).any(-1).all()
    moved = boxes.clone()
    moved[0, 0] += 5  # a box is seen by its own query only
    difference = (head(pyramid, Proposals(moved, queries)).logits - before).abs().amax(-1)[0]
    assert difference[0] > 1e-4 and difference[1:].max() < 1e-5


def test_permuting_the_proposals_permutes_the_outputs() -> None:
    head, pyramid, boxes, queries = build(), pyramid_of(2), random_boxes(2, 6), torch.randn(2, 6, C)
    order = torch.randperm(6)
    before = head(pyramid, Proposals(boxes, queries))
    after = head(pyramid, Proposals(boxes[:, order], queries[:, order]))
    for plain, permuted in zip(before, after, strict=True):
        torch.testing.assert_close(permuted, plain[:, order], rtol=1e-4, atol=1e-5)


def test_boxes_are_the_decoded_deltas() -> None:
    head, boxes = build(), random_boxes(1, 6)
    with torch.no_grad():
        head.fc_reg.weight.zero_()
        head.fc_reg.bias.copy_(torch.tensor([1., -1., 0.5, 0.2]))
    output = head(pyramid_of(1), Proposals(boxes, torch.randn(1, 6, C)))
    torch.testing.assert_close(output.boxes, decode_boxes(boxes, head.fc_reg.bias, (2., 2., 1., 1.)))


def test_towers_of_other_depths() -> None:
    head = DIIHead(num_classes=3, in_channels=C, num_heads=2, num_cls_fcs=0, num_reg_fcs=2, feedforward_channels=8,
                   dynamic_conv=dict(type='DynamicConv', feat_channels=4))
    keys = set(head.state_dict())
    assert not any(key.startswith('cls_fcs') for key in keys)
    assert {key for key in keys if key.startswith('reg_fcs') and key.endswith('0.weight')} == {'reg_fcs.0.weight'}
    assert 'reg_fcs.3.weight' in keys and 'reg_fcs.6.weight' not in keys
    output = head(pyramid_of(1), Proposals(random_boxes(1, 4), torch.randn(1, 4, C)))
    torch.testing.assert_close(output.logits, head.fc_cls(output.queries))
