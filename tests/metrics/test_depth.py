"""Scores of depth against computations of their own."""

import logging

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from fade_mm.metrics import DepthMetric
from fade_mm.metrics.depth import SCORES, crop_box, near_edges


def scene(seed=0, size=(40, 56)):
    """A near box before a slanted wall, a prediction of it, and a hole where nothing is known."""
    rng = np.random.default_rng(seed)
    truth = np.linspace(2.5, 4.5, size[1]) * np.ones(size)
    truth[10:30, 15:35] = 1.5
    pred = truth * np.exp(rng.normal(0.05, 0.2, size))
    truth[25:33, 30:40] = 0
    return pred, truth


def sample(pred, truth):
    as_data = {'pred_depth_map': pred, 'gt_depth_map': truth}
    return {
        name: dict(data=torch.from_numpy(x)[None].float()) for name, x in as_data.items()
    } | dict(img_path='a.jpg')


def by_definition(pred, truth):
    """A pixel at a time, as the papers define the scores."""
    n = len(truth)
    pairs = list(zip(pred.tolist(), truth.tolist(), strict=True))
    logs = [np.log(p / t) for p, t in pairs]
    within = [sum(max(p / t, t / p) < 1.25**i for p, t in pairs) / n for i in (1, 2, 3)]
    return {
        'd1': within[0],
        'd2': within[1],
        'd3': within[2],
        'abs_rel': sum(abs(p - t) / t for p, t in pairs) / n,
        'sq_rel': sum((p - t) ** 2 / t for p, t in pairs) / n,
        'rmse': (sum((p - t) ** 2 for p, t in pairs) / n) ** 0.5,
        'rmse_log': (sum(x**2 for x in logs) / n) ** 0.5,
        'log10': sum(abs(np.log10(p) - np.log10(t)) for p, t in pairs) / n,
        'silog': 100 * (sum(x**2 for x in logs) / n - (sum(logs) / n) ** 2) ** 0.5,
    }


def edges_by_definition(truth, valid, ratio=1.25, width=5):
    """Pixels within a distance of one whose neighbour, known as it is, is so much further off."""
    h, w = truth.shape
    edge = np.zeros((h, w), bool)
    for i in range(h):
        for j in range(w):
            for k, m in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
                if 0 <= k < h and 0 <= m < w and valid[i, j] and valid[k, m]:
                    a, b = truth[i, j], truth[k, m]
                    edge[i, j] |= max(a / b, b / a) > ratio
    return distance_transform_edt(~edge) <= width


def evaluate(metric, samples):
    for x in samples:
        metric.process({}, [x])
    return metric.evaluate(len(samples))


def test_each_score_is_the_papers_over_pictures_and_at_edges():
    scenes = [scene(seed) for seed in (0, 1)]
    scores = evaluate(DepthMetric(), [sample(*x) for x in scenes])
    expected = []
    for pred, truth in scenes:
        pred, truth = (x.astype(np.float32).astype(float) for x in (pred, truth))
        valid = truth > 0
        near = edges_by_definition(truth, valid)
        assert 0 < near[valid].mean() < 0.8
        expected.append(
            by_definition(pred[valid], truth[valid])
            | {
                f'edge_{name}': x
                for name, x in by_definition(pred[valid & near], truth[valid & near]).items()
            }
        )
    means = {name: np.mean([x[name] for x in expected]) for name in expected[0]}
    assert scores == pytest.approx(means, rel=1e-6)
    assert set(scores) == set(DepthMetric.better)
    assert {name for name, rule in DepthMetric.better.items() if rule == 'greater'} == {
        *('d1', 'd2', 'd3'),
        *('edge_d1', 'edge_d2', 'edge_d3'),
    }


def test_scores_without_clamping_agree_with_mmsegmentations():
    """Which has another silog, without a factor, and none of the edges."""
    mmseg = pytest.importorskip('mmseg.evaluation')
    x = sample(*scene())
    theirs = mmseg.DepthMetric(min_depth_eval=1e-3, max_depth_eval=10.0)
    ours, theirs = evaluate(DepthMetric(), [x]), evaluate(theirs, [x])
    for name in set(SCORES) - {'silog'}:
        assert ours[name] == pytest.approx(theirs[name], rel=1e-5), name
    d = np.log(scene()[0][scene()[1] > 0]) - np.log(scene()[1][scene()[1] > 0])
    assert ours['silog'] == pytest.approx(100 * d.std(), rel=1e-5)


def test_predictions_are_clamped_and_what_is_no_number_is_a_depth_too():
    truth = np.full((2, 3), 2.0)
    pred = np.array([[np.nan, np.inf, -np.inf], [-1.0, 0.0, 50.0]])
    clamped = np.array([[1e-3, 10, 1e-3], [1e-3, 1e-3, 10]])
    metric = DepthMetric()
    np.testing.assert_array_equal(metric.score(pred, truth), metric.score(clamped, truth))
    assert np.isfinite(metric.score(pred, truth)[0]).all()


def test_pictures_without_a_pixel_that_counts_are_left_out_and_counted(monkeypatch):
    said = []
    monkeypatch.setattr(
        'fade_mm.metrics.depth.print_log', lambda text, level=logging.INFO, **_: said.append(text)
    )
    pred, truth = scene()
    flat, unknown = np.full_like(truth, 2.0), np.zeros_like(truth)
    scores = evaluate(DepthMetric(), [sample(pred, x) for x in (truth, unknown, flat)])
    alone = [DepthMetric().score(pred.astype(np.float32), x) for x in (truth, flat)]
    assert scores['abs_rel'] == pytest.approx(np.mean([x[0][3] for x in alone]), rel=1e-5)
    assert scores['edge_abs_rel'] == pytest.approx(alone[0][1][3], rel=1e-5)
    assert 'left out of 3 pictures: 1 without a pixel of 0.001 to 10.0 m, 2 without' in said[0]
    assert len(said) == 1
    scores = evaluate(DepthMetric(), [sample(pred, unknown)])
    assert np.isnan(scores['rmse'])
    assert 'look at depth_rescale_factor' in said[-1]


@pytest.mark.parametrize(
    ('crop', 'size', 'box'),
    [
        ('eigen', (480, 640), (45, 471, 41, 601)),
        ('eigen', (240, 320), (22, 236, 20, 301)),
        ('garg', (375, 1242), (153, 371, 44, 1197)),
        (None, (7, 9), (0, 7, 0, 9)),
        ((1, 5, 2, 6), (7, 9), (1, 5, 2, 6)),
    ],
)
def test_crops(crop, size, box):
    assert crop_box(crop, size) == box


def test_what_is_cropped_or_in_the_border_does_not_count():
    pred, truth = scene()
    spoiled = pred.copy()
    spoiled[:8], spoiled[35:], spoiled[:, :6], spoiled[:, 50:] = 9, 9, 9, 9
    cropped = DepthMetric(crop=(8, 35, 6, 50))
    np.testing.assert_array_equal(cropped.score(pred, truth), cropped.score(spoiled, truth))
    assert (DepthMetric().score(pred, truth) != DepthMetric().score(spoiled, truth)).any()
    frame = np.full_like(truth, 2.0)
    frame[4:-4, 4:-4] = 6.0  # an edge that is none, of a frame
    bordered = DepthMetric(border=4).score(pred, frame)
    inside = DepthMetric().score(pred[4:-4, 4:-4], frame[4:-4, 4:-4])
    np.testing.assert_array_equal(bordered, inside)
    assert np.isnan(bordered[1]).all()


def test_edges_are_near_enough_in_every_direction():
    truth = np.ones((15, 17))
    truth[7, 8] = 1.26
    known = np.ones_like(truth, bool)
    assert not near_edges(truth, known, 1.27, 5).any()
    np.testing.assert_array_equal(
        near_edges(truth, known, 1.25, 5), edges_by_definition(truth, known)
    )
    known[7, 8] = False
    assert not near_edges(truth, known, 1.25, 5).any()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(crop='nyu'), "crop must be 'eigen', .* got 'nyu'"),
        (dict(crop=(5, 1, 0, 3)), 'crop must be'),
        (dict(min_depth=0), 'min_depth must be positive'),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        DepthMetric(**arguments)


def test_a_truth_of_another_size_or_none_is_named():
    pred, truth = scene()
    with pytest.raises(ValueError, match='another size than the truth'):
        DepthMetric().score(pred[:-1], truth)
    with pytest.raises(ValueError, match=r'a\.jpg has no depth map'):
        DepthMetric().process({}, [dict(img_path='a.jpg')])
