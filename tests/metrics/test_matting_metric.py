"""The scores of matting against computations with scipy, and by hand."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from scipy import ndimage

from fade_mm.metrics import MattingMetric
from fade_mm.metrics.matting import matting_scores
from fade_mm.run.mmengine_fixes import tell_rules

PROTOCOLS = ('python', 'matlab')


def picture(h, w, seed):
    """A prediction, a truth of 8 bits with soft edges and islands, and a trimap."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(h, w)), min(h, w) / 12 + 0.5)
    truth = (3 * smooth / np.abs(smooth).max() + 0.4).clip(0, 1)
    truth = (np.round(255 * truth) / 255).astype(np.float32)
    noise = ndimage.gaussian_filter(rng.normal(size=(h, w)), 1)
    pred = (truth + 0.3 * noise).clip(0, 1).astype(np.float32)
    trimap = np.where(truth == 1, 255, np.where(truth == 0, 0, 128))
    trimap[rng.random((h, w)) < 0.3] = 128
    known = trimap != 128
    pred[known] = trimap[known] / np.float32(255)
    return pred, truth, trimap.astype(np.uint8)


def stretched(x):
    return x if x.min() == x.max() else (x - x.min()) / (x.max() - x.min())


def by_scipy(pred, truth, trimap, protocol):
    unknown = trimap == 128
    if not unknown.any():
        return dict(SAD=0, MSE=0, Grad=0, Conn=0)
    if protocol == 'python':
        pred, truth = stretched(pred), stretched(truth)
        magnitudes = [
            np.hypot(*(ndimage.gaussian_filter(x, 1.4, order) for order in ([1, 0], [0, 1])))
            for x in (pred, truth)
        ]
        scale = 10
    else:
        pred, truth = (np.floor(255 * x) / np.float32(255) for x in (pred, truth))
        t = np.arange(-4, 5)
        gauss = np.exp(-(t**2) / (2 * 1.4**2)) / (1.4 * np.sqrt(2 * np.pi))
        kernel = np.outer(gauss, -t * gauss / 1.4**2)
        kernel /= np.sqrt((kernel**2).sum())
        magnitudes = [
            np.hypot(
                *(ndimage.convolve(stretched(x), k, mode='nearest') for k in (kernel, kernel.T))
            )
            for x in (pred, truth)
        ]
        scale = 1000
    levels = []
    reached = np.full(pred.shape, -1.0)
    for step in range(1, 11):
        threshold = np.float32(step / 10)
        labels, count = ndimage.label((pred >= threshold) & (truth >= threshold))  # 4-connected
        if not count:
            continue
        sizes = ndimage.sum_labels(np.ones_like(pred), labels, range(1, count + 1))
        outside = labels != 1 + np.argmax(sizes)
        levels.append((step - 1) / 10)
        reached[outside & (reached == -1)] = levels[-1]
    reached[reached == -1] = 1
    degrees = []
    for x in (pred, truth):
        d = (x - reached.astype(np.float32)).astype(np.float32)
        degrees.append(1 - d * (d >= 0.15))
    return dict(
        SAD=np.abs(pred - truth)[unknown].sum() / 1000,
        MSE=((pred - truth)[unknown] ** 2).mean(),
        Grad=((magnitudes[0] - magnitudes[1])[unknown] ** 2).sum() / scale,
        Conn=np.abs(degrees[0] - degrees[1])[unknown].sum() / 1000,
    )


def evaluate(pictures, size=None, **kwargs):
    metric = MattingMetric(**kwargs)
    for pred, truth, trimap in pictures:
        sample = dict(
            pred_alpha=torch.from_numpy(pred),
            gt_alpha=torch.from_numpy(truth)[None],
            trimap=torch.from_numpy(trimap)[None],
        )
        metric.process({}, [sample])
    return metric.evaluate(len(pictures))


@pytest.mark.parametrize('protocol', PROTOCOLS)
@pytest.mark.parametrize('shape', [(90, 120), (64, 41), (7, 5), (1, 9), (1, 1)], ids=str)
def test_matches_an_independent_computation(shape, protocol):
    pictures = [picture(*shape, seed) for seed in range(3)]
    expected = [by_scipy(*x, protocol) for x in pictures]
    scores = evaluate(pictures, protocol=protocol)
    assert list(scores) == ['SAD', 'MSE', 'Grad', 'Conn']
    for name, value in scores.items():
        mean = np.mean([x[name] for x in expected])
        assert value == pytest.approx(mean, rel=1e-4, abs=1e-7), name
    if min(shape) > 40:
        assert all(value > 0 for value in scores.values())


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_both_agree_about_as_much_as_they_should(protocol):
    """Grad's scales agree to 4 %: 1 / (1000 |k|^2) = 0.09656 against 1 / 10."""
    pred, truth, trimap = picture(200, 150, 0)
    python, matlab = (matting_scores(pred, truth, trimap, x) for x in PROTOCOLS)
    assert matlab['Grad'] / python['Grad'] == pytest.approx(0.9656, abs=0.02)
    assert matlab['SAD'] == pytest.approx(python['SAD'], rel=0.05)


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_a_perfect_prediction_has_0(protocol):
    _, truth, trimap = picture(60, 80, 0)
    assert set(matting_scores(truth, truth, trimap, protocol).values()) == {0}


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_no_unknown_pixel_scores_0_and_counts(protocol):
    one, other = picture(40, 50, 0), picture(40, 50, 1)
    known = (other[0], other[1], np.where(other[2] == 128, 255, other[2]).astype(np.uint8))
    alone, both = evaluate([one], protocol=protocol), evaluate([one, known], protocol=protocol)
    assert all(both[name] == pytest.approx(alone[name] / 2) for name in alone)


@pytest.mark.parametrize('protocol', PROTOCOLS)
@pytest.mark.parametrize('value', [0.0, 0.3, 1.0])
def test_a_constant_alpha_is_not_stretched(value, protocol):
    _, truth, _ = picture(40, 50, 0)
    trimap = np.full(truth.shape, 128, np.uint8)
    pred = np.full_like(truth, value)
    scores = matting_scores(pred, truth, trimap, protocol)
    off = np.abs(truth.astype(float) - value)
    assert scores['SAD'] == pytest.approx(off.sum() / 1000, rel=0.02)
    assert scores['MSE'] == pytest.approx((off**2).mean(), rel=0.02)
    assert scores == pytest.approx(by_scipy(pred, truth, trimap, protocol), rel=1e-4)


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_thresholds_that_both_reach_nowhere_are_passed_over(protocol):
    """No pixel is opaque in both: all belong to the frontier at 1, so nothing is set."""
    truth, pred = np.zeros((20, 20), np.float32), np.zeros((20, 20), np.float32)
    truth[2:8, 2:8] = 1
    pred[12:18, 12:18] = 1
    trimap = np.full((20, 20), 128, np.uint8)
    scores = matting_scores(pred, truth, trimap, protocol)
    assert scores['Conn'] == 0  # as both programs have it
    assert scores['SAD'] == pytest.approx(72 / 1000)


def test_connectivity_by_hand():
    """An island that is not connected to the largest region counts by its whole alpha."""
    truth, pred = np.zeros((20, 30), np.float32), np.zeros((20, 30), np.float32)
    truth[2:12, 2:12] = pred[2:12, 2:12] = 1
    pred[15:18, 20:25] = 0.8
    pred[0, 29] = 0.1  # below 0.15: no difference
    scores = matting_scores(pred, truth, np.full((20, 30), 128, np.uint8))
    assert scores['Conn'] == pytest.approx(15 * 0.8 / 1000)
    assert scores['SAD'] == pytest.approx((15 * 0.8 + 0.1) / 1000)


def test_regions_that_touch_at_corners_are_two():
    truth = np.zeros((8, 8), np.float32)
    truth[:4, :4] = truth[4:6, 4:6] = 1
    pred = truth.copy()
    pred[4:6, 4:6] = 0.5
    trimap = np.full((8, 8), 128, np.uint8)
    assert matting_scores(pred, truth, trimap)['Conn'] == pytest.approx(4 * 0.5 / 1000)


def test_stretching():
    pred = np.array([[0.2, 0.7]], np.float32)
    truth = np.array([[0.0, 1.0]], np.float32)
    trimap = np.full((1, 2), 128, np.uint8)
    assert matting_scores(pred, truth, trimap)['SAD'] == pytest.approx(0, abs=1e-9)
    in_8_bits = (np.floor(0.2 * 255) + 255 - np.floor(0.7 * 255)) / 255 / 1000
    assert matting_scores(pred, truth, trimap, 'matlab')['SAD'] == pytest.approx(in_8_bits)


def test_a_subset_alone_counts():
    metric = MattingMetric(subset='hair', prefix='hair')
    for seed, subset in ((0, 'hair'), (1, 'glass'), (2, None)):
        pred, truth, trimap = (torch.from_numpy(x) for x in picture(30, 40, seed))
        sample = dict(pred_alpha=pred, gt_alpha=truth[None], trimap=trimap[None])
        metric.process({}, [dict(sample, **(dict(subset=subset) if subset else {}))])
    assert len(metric.results) == 3
    scores = metric.evaluate(3)
    alone = matting_scores(*picture(30, 40, 0))
    assert scores == pytest.approx({f'hair/{name}': value for name, value in alone.items()})


def test_without_a_sample_there_is_no_score():
    metric = MattingMetric(subset='hair')
    metric.process({}, [dict(subset='glass')])
    assert all(np.isnan(x) for x in metric.evaluate(1).values())


def test_less_is_better_and_the_runner_knows():
    cfg = Config(
        dict(
            val_evaluator=[dict(type='fade_mm.MattingMetric')],
            default_hooks=dict(checkpoint=dict(save_best='SAD')),
        )
    )
    tell_rules(cfg)
    assert cfg.default_hooks.checkpoint.rule == 'less'


def test_faults_are_named():
    with pytest.raises(ValueError, match="'python' or 'matlab', got 'Matlab'"):
        MattingMetric(protocol='Matlab')
    with pytest.raises(ValueError, match=r'x\.jpg has no alpha to measure against'):
        MattingMetric().process({}, [dict(img_path='x.jpg')])
