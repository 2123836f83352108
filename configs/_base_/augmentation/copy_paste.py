"""In half of the samples, objects of another image, cut out along their masks (Simple Copy-Paste, arXiv 2012.07177)."""
mixed_with_masks = [dict(type='PasteObjects', prob=0.5)]
