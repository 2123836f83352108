"""How fast and how large the detector is, part by part, and against mmdet's own."""
