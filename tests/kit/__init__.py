"""What many tests need: paths, small data sets, tiny configs."""
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / 'configs'
DIGITS_CONFIG = str(CONFIGS / 'sparse_rcnn_r18_digits.py')
CLASSES = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')
