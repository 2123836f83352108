"""The learned proposals."""
import pytest
import torch

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.models import EmbeddingRPNHead

WHWH = torch.tensor([[[320., 200., 320., 200.]], [[64., 96., 64., 96.]]])


def test_every_proposal_starts_as_its_whole_image_whatever_the_features() -> None:
    boxes, queries = EmbeddingRPNHead(num_proposals=7, proposal_feature_channel=8)([], WHWH)
    assert boxes.tolist() == [[[0., 0., 320., 200.]] * 7, [[0., 0., 64., 96.]] * 7]
    assert queries.shape == (2, 7, 8)
    torch.testing.assert_close(queries[0], queries[1])


def test_boxes_are_normalised_centre_and_size() -> None:
    head = EmbeddingRPNHead(num_proposals=1, proposal_feature_channel=2)
    with torch.no_grad():
        head.init_proposal_bboxes.weight.copy_(torch.tensor([[0.25, 0.5, 0.5, 0.1]]))
    torch.testing.assert_close(head([], WHWH).boxes.squeeze(1),
                               torch.tensor([[0., 90., 160., 110.], [0., 43.2, 32., 52.8]]))


def test_gradient_sums_over_the_images() -> None:
    head = EmbeddingRPNHead(num_proposals=3, proposal_feature_channel=4)
    boxes, queries = head([], WHWH)
    (boxes.sum() + queries.sum()).backward()
    assert (head.init_proposal_features.weight.grad == 2).all()
    # The corners sum to twice the centre, in pixels of both images.
    torch.testing.assert_close(head.init_proposal_bboxes.weight.grad[0], torch.tensor([768., 592., 0., 0.]))


def test_boxes_start_as_the_cells_of_a_grid_in_turn() -> None:
    two_rows = EmbeddingRPNHead(num_proposals=5, proposal_feature_channel=2, grid=[2, 1])  # a config has a list
    top, bottom = [0., 0., 320., 100.], [0., 100., 320., 200.]
    assert two_rows([], WHWH[:1]).boxes.tolist() == [[top, bottom, top, bottom, top]]
    cells = EmbeddingRPNHead(num_proposals=8, proposal_feature_channel=2, grid=(2, 4))([], WHWH[:1]).boxes[0]
    assert cells[[1, 4, 7]].tolist() == [[80., 0., 160., 100.], [0., 100., 80., 200.], [240., 100., 320., 200.]]


@pytest.mark.parametrize('grid', [[0, 5], 3, [4, 5, 6], [1.5, 2], 'ab'])
def test_a_grid_that_is_none_is_refused(grid: object) -> None:
    with pytest.raises(UserError, match='grid of EmbeddingRPNHead must be two positive integers, rows'):
        EmbeddingRPNHead(num_proposals=4, grid=grid)
