"""Backbones by name: mmdet's with the settings of their authors, and every network of timm that has feature maps."""
from .choosing import set_backbone
from .timm_backbone import TimmBackbone

__all__ = ['TimmBackbone', 'set_backbone']
