"""AdaMixer: A Fast-Converging Query-Based Object Detector (arXiv 2203.16507).

In addition to the tensor legend of `sparse_rcnn_mm.models` (G groups of channels, P points of a group):

    xyzr        (B, N, 4)           a box: center in pixels, z = log2 of its scale, r = log2 of height / width
    points      (B, N, G, P, 3)     x, y in pixels and z, on the scale of xyzr
    sampled     (B*N, G, P, C/G)    features at the points

Read in this order: adamixer_stage, xyzr, sampling_and_mixing, point_sampler, adaptive_mixing, whole_image_proposals.
"""
from .adamixer_stage import AdaMixerStage
from .adaptive_mixing import AdaptiveMixing
from .point_sampler import PointSampler
from .whole_image_proposals import WholeImageProposals
from .xyzr import AdaMixerOutput, XYZRProposals

__all__ = [
    'AdaMixerOutput', 'AdaMixerStage', 'AdaptiveMixing', 'PointSampler', 'WholeImageProposals', 'XYZRProposals',
]
