"""The tool that lays masks of models side by side, on generated shapes."""

import runpy

import cv2
import numpy as np
import pytest
import torch

from fade_mm.run import build_model, load_config
from tests.tools import BCCD, ROOT, SHAPES, config, run


@pytest.fixture(scope='module')
def matched():
    return runpy.run_path(str(ROOT / 'tools/compare_masks.py'))['matched']


def squares(*corners, side=10):
    masks = np.zeros((len(corners), 40, 40), np.uint8)
    for mask, (top, left) in zip(masks, corners, strict=True):
        mask[top : top + side, left : left + side] = 1
    return masks


def test_the_best_masks_match_first_and_each_true_one_once(matched):
    truth = squares((0, 0), (20, 20), (0, 25))
    masks = squares((0, 1), (0, 0), (21, 20), (29, 0))  # an IoU of 9/11, 1, 9/11, 0
    matches, counts, found = matched(masks, truth, squares(), 0.75)
    assert matches.tolist() == [True, False, True, False]
    assert found.tolist() == [True, True, False]
    assert counts.all()
    assert not matched(masks, truth, squares(), 0.9)[0][[0, 2]].any()


def test_what_lies_in_a_crowd_does_not_count(matched):
    masks = squares((2, 2), (20, 20))
    matches, counts, found = matched(masks, squares(), squares((0, 0), side=20), 0.75)
    assert not matches.any()
    assert counts.tolist() == [False, True]
    assert found.size == 0


def test_without_masks_nothing_matches(matched):
    matches, counts, found = matched(squares(), squares((0, 0)), squares(), 0.5)
    assert (matches.size, counts.size, found.tolist()) == (0, 0, [False])


def test_models_are_laid_side_by_side(tmp_path):
    data, out, weights = tmp_path / 'shapes', tmp_path / 'masks.png', tmp_path / 'fresh.pth'
    run('dataset_converters/make_shapes', data, '--images', 12, '--size', 32)
    cfg = config(SHAPES, 'fade')
    options = ['model.test_cfg.rcnn.score_thr=0', f'test_dataloader.dataset.data_root={data}']
    torch.manual_seed(0)
    torch.save(dict(state_dict=build_model(load_config(str(cfg))).state_dict()), weights)
    pair, options = (cfg, weights), ['--score', 0, '--cfg-options', *options]
    run('compare_masks', *pair, *pair, '--out', out, '--rows', 2, *options)
    # 4 tiles of 32 and a gap of 4; 2 rows, with captions of 24
    assert cv2.imread(str(out)).shape == (2 * (32 + 24), 4 * (32 + 4), 3)
    name = next((data / 'images/validation').iterdir()).stem
    run('compare_masks', *pair, '--out', out, '--pictures', name, '--zoom', 3, *options)
    assert cv2.imread(str(out)).shape == (3 * 32 + 24, 3 * (3 * 32 + 4), 3)
    with pytest.raises(SystemExit, match=r'is of detection, not of instance segmentation'):
        run('compare_masks', config(BCCD, 'fade'), weights, '--out', out)
    with pytest.raises(SystemExit):
        run('compare_masks', *pair, '--out', out, '--iou', 2)
