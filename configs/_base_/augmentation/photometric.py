"""Brightness, contrast, saturation, hue and the order of the channels change at random (SSD, arXiv 1512.02325)."""
after_loading = [
    # It takes BGR images. On RGB ones it changes the hue in the opposite direction, which is as likely.
    dict(type='PhotoMetricDistortion'),
    dict(type='RoundPixels'),
]
