"""Classes that a protocol leaves out of labels."""

from collections.abc import Sequence

import numpy as np
from mmcv.transforms import BaseTransform

from fade_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class IgnoreLabels(BaseTransform):
    """Leave classes out: their points count neither in the loss nor in the scores.

    Reads and writes ``gt_seg_map``, of shape ``(H, W)``.

    Args:
        labels: The classes' numbers.
        ignore_index: What their points get. Default: 255.
    """

    def __init__(self, labels: Sequence[int], ignore_index: int = 255) -> None:
        self.labels = tuple(labels)
        self.ignore_index = ignore_index

    def transform(self, results: dict) -> dict:
        """Replace them."""
        labels = results['gt_seg_map']
        results['gt_seg_map'] = np.where(np.isin(labels, self.labels), self.ignore_index, labels)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(labels={self.labels}, ignore_index={self.ignore_index})'
