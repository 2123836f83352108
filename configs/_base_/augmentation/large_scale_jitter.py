"""Resize to 0.1 to 2 times a square, then cut out one of its size (Simple Copy-Paste, arXiv 2012.07177)."""
side = 1024

instead_of_resizing = [
    dict(type='RandomResize', scale=(side, side), ratio_range=(0.1, 2.0), keep_ratio=True, backend='pillow'),
    dict(type='RandomCrop', crop_size=(side, side), allow_negative_crop=True),
]
