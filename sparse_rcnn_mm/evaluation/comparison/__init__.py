"""Two detectors on the same images: what both find and what only one finds, their AP, speed and size."""
