"""Speed and memory of the detector, part by part, and compared with mmdet's own."""
