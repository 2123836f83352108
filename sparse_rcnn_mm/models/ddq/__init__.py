"""DDQ R-CNN: Dense Distinct Query for End-to-End Object Detection (arXiv 2303.12776), written from its equations.

In addition to the tensor legend of `sparse_rcnn_mm.models` (P positions of all levels, M candidates of an image):

    scores      (B, M, K)   sqrt(probability of the class * probability of an object)
    kept        (B, M)      whether a candidate is kept
    quality     (B, M)      the quality of a match, the target of its class score

Read in this order: dense_distinct_proposals, pyramid_shuffle, decoding, distinct; then dense_criterion,
repeated_hungarian.
"""
from .dense_criterion import DenseCriterion, QualityFocalLoss
from .dense_distinct_proposals import DenseDistinctProposals
from .repeated_hungarian import RepeatedHungarianAssigner
from .structures import DensePredictions, DistinctProposals

__all__ = [
    'DenseCriterion', 'DenseDistinctProposals', 'DensePredictions', 'DistinctProposals', 'QualityFocalLoss',
    'RepeatedHungarianAssigner',
]
