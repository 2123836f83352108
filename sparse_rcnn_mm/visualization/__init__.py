"""Pictures: detections on images, and boxes on their way through the stages."""
from .draw import Mark, class_colors, draw_boxes, enlarged
from .stages import StageBoxes, animate_stages, follow_stages, stage_panels

__all__ = ['Mark', 'StageBoxes', 'animate_stages', 'class_colors', 'draw_boxes', 'enlarged', 'follow_stages',
           'stage_panels']
