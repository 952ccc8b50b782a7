"""Boundary IoU against an independent computation with scipy."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from fade_mm.metrics import BoundaryIoUMetric
from fade_mm.metrics.boundary_iou import boundary_band


def label_map(rng, shape, classes):
    """Blobs of labels, with some pixels to ignore."""
    noise = ndimage.gaussian_filter(rng.normal(size=(classes, *shape)), (0, 4, 4))
    labels = noise.argmax(0)
    labels[rng.random(shape) < 0.02] = 255
    return labels


def evaluate(pairs, classes, **kwargs):
    metric = BoundaryIoUMetric(**kwargs)
    metric.dataset_meta = dict(classes=[str(i) for i in range(classes)])
    for pred, truth in pairs:
        sample = {
            name: dict(data=torch.from_numpy(labels)[None])
            for name, labels in (('pred_sem_seg', pred), ('gt_sem_seg', truth))
        }
        metric.process({}, [sample])
    return metric.evaluate(len(pairs))['mBIoU']


def by_scipy(pairs, classes):
    intersection, union = np.zeros(classes), np.zeros(classes)
    for pred, truth in pairs:
        width = max(1, round(0.02 * (truth.shape[0] ** 2 + truth.shape[1] ** 2) ** 0.5))
        valid = truth != 255
        for label in range(classes):
            bands = []
            for mask in ((pred == label) & valid, (truth == label) & valid):
                square = np.ones((3, 3), bool)
                eroded = ndimage.binary_erosion(mask, square, iterations=width, border_value=0)
                bands.append(mask & ~eroded)
            intersection[label] += (bands[0] & bands[1]).sum()
            union[label] += (bands[0] | bands[1]).sum()
    return 100 * np.mean([i / u for i, u in zip(intersection, union, strict=True) if u])


@pytest.mark.parametrize('shape', [(20, 31), (90, 120), (256, 200)], ids=str)
def test_matches_an_independent_computation(shape):
    rng = np.random.default_rng(0)
    pairs = [(label_map(rng, shape, 5) % 255, label_map(rng, shape, 4)) for _ in range(3)]
    assert evaluate(pairs, 6) == pytest.approx(by_scipy(pairs, 6), abs=0.01)


def test_a_perfect_prediction_has_100():
    truth = label_map(np.random.default_rng(1), (60, 80), 4)
    assert evaluate([(np.where(truth == 255, 0, truth), truth)], 4) == 100


def test_a_shifted_square_by_hand():
    """A 10x10 square moved by one pixel: two frames of 36 pixels, of which 18 are shared."""
    truth, pred = np.zeros((32, 32), np.int64), np.zeros((32, 32), np.int64)
    truth[8:18, 8:18] = 1
    pred[8:18, 9:19] = 1
    metric = BoundaryIoUMetric(dilation_ratio=0.02)
    metric.dataset_meta = dict(classes=['background', 'square'])
    sample = dict(
        pred_sem_seg=dict(data=torch.from_numpy(pred)[None]),
        gt_sem_seg=dict(data=torch.from_numpy(truth)[None]),
    )
    metric.process({}, [sample])
    (areas,) = metric.results
    assert list(areas[:, 1]) == [18, 72 - 18]  # nine pixels of the upper side, nine of the lower


def test_the_frame_counts_as_boundary():
    band = boundary_band(np.ones((10, 12), bool), 2)
    assert band.sum() == 120 - 6 * 8
    assert not band[2:-2, 2:-2].any()


def test_classes_that_never_occur_do_not_count():
    truth = np.zeros((16, 16), np.int64)
    assert evaluate([(truth, truth)], 5) == 100


def test_ignored_pixels_are_background_in_both():
    truth = np.zeros((16, 16), np.int64)
    truth[:, 8:] = 255
    pred = truth.copy()
    pred[:, 8:] = 3  # a prediction where nothing is known
    assert evaluate([(pred, truth)], 4) == 100


def test_a_data_set_of_ignored_pixels_has_no_value():
    truth = np.full((8, 8), 255)
    assert np.isnan(evaluate([(truth * 0, truth)], 2))
