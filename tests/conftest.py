"""The package comes first: without compiled ops in mmcv, mmdet cannot be imported before it."""
import sparse_rcnn_mm  # noqa: F401
