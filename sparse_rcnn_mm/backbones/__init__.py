"""Backbones by name: mmdet's with their authors' settings, and every timm model that returns feature maps."""
from .choosing import set_backbone
from .timm_backbone import TimmBackbone

__all__ = ['TimmBackbone', 'set_backbone']
