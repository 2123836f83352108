"""Pictures of detections on images, and of boxes as they move through the stages."""
from .contact_sheet import contact_sheet
from .draw import Mark, class_colors, draw_boxes, enlarged
from .stages import StageBoxes, animate_stages, stage_panels

__all__ = ['Mark', 'StageBoxes', 'animate_stages', 'class_colors', 'contact_sheet', 'draw_boxes', 'enlarged',
           'stage_panels']
