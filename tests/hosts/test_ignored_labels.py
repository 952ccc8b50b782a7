"""What a protocol does to labels."""

import numpy as np

from fade_mm.registry import TRANSFORMS


def test_classes_that_are_left_out_count_nowhere():
    transform = TRANSFORMS.build(dict(type='fade_mm.IgnoreLabels', labels=[2, 3]))
    labels = np.array([[0, 1, 2], [3, 4, 255]], np.uint8)
    result = transform(dict(gt_seg_map=labels))['gt_seg_map']
    assert result.dtype == np.uint8
    assert result.tolist() == [[0, 1, 255], [255, 4, 255]]
    assert 'labels=(2, 3)' in repr(transform)
