"""Compares two detectors on the same images: what both find, what only one finds, AP, speed and size."""
