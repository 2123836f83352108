"""In half of the samples, four images around a random point (YOLOv4, arXiv 2004.10934)."""
side = 640  # of each of the four; the config's resizing follows

mixed = [dict(type='Mosaic', img_scale=(side, side), prob=0.5)]
