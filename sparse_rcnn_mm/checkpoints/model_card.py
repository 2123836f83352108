"""The README.md of a published model: what it detects, how to use it, and where it came from."""
from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sparse_rcnn_mm.terminal import one_line

_MOST_CLASSES = 100
_HEAD = """\
---
library_name: sparse_rcnn_mm
pipeline_tag: object-detection
tags:
- object-detection
- sparse-rcnn
- safetensors
---
"""
_MARKUP = re.compile(r'([\\`*_{}\[\]<>()#+!|~-])')


def model_card(name: str, kind: str, state: Mapping[str, Tensor], dataset_meta: Mapping[str, Any],
               source: str) -> str:
    """Return the text of a model card.

    Args:
        name: the name of the model.
        kind: the class of the model.
        state: its weights.
        dataset_meta: its class names.
        source: the name of the file that it was converted from.
    """
    classes = dataset_meta.get('classes') or dataset_meta.get('CLASSES') or ()
    names = [classes] if isinstance(classes, str) else list(classes)
    shown = ', '.join(_plain(one) for one in names[:_MOST_CLASSES]) + (', ...' if len(names) > _MOST_CLASSES else '')
    numbers = sum(value.numel() for entry, value in state.items()
                  if not entry.endswith(('.running_mean', '.running_var', '.num_batches_tracked')))
    return f"""{_HEAD}
# {_plain(name)}

An object detector for the Python package sparse_rcnn_mm: {_plain(kind)} with {numbers / 1e6:.1f} M parameters.
It detects {len(names)} {'class' if len(names) == 1 else 'classes'}: {shown or 'unnamed'}.

```python
from sparse_rcnn_mm import Detector

detector = Detector.from_pretrained('USER/NAME')  # or the path of this folder
detections = detector('photo.jpg').keep(score_thr=0.3)
```

Converted from {_plain(source)}, which does not say what the model was trained on, what AP it reaches and under which
license it is: please add this here.
"""


def _plain(text: object) -> str:
    """A name that Markdown shows as it is."""
    return _MARKUP.sub(r'\\\1', one_line(text))
