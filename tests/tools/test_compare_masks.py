"""The tool that lays masks of models side by side, on generated shapes."""

import json
import runpy

import cv2
import numpy as np
import pytest
import torch

from fade_mm.hosts import host_of
from fade_mm.run import build_model, load_config
from fade_mm.run.side_by_side import test_set_of as set_of
from tests.tools import BCCD, ROOT, SHAPES, config, run


@pytest.fixture(scope='module')
def tool():
    return runpy.run_path(str(ROOT / 'tools/compare_masks.py'))


@pytest.fixture
def squares(tool):
    def make(*corners, side=10, labels=None):
        masks = np.zeros((len(corners), 40, 40), np.uint8)
        for mask, (top, left) in zip(masks, corners, strict=True):
            mask[top : top + side, left : left + side] = 1
        return tool['Masks'](masks, np.array(labels or [0] * len(corners), int))

    return make


def test_the_best_masks_match_first_and_each_true_one_once(tool, squares):
    truth = squares((0, 0), (20, 20), (0, 25))
    pred = squares((0, 1), (0, 0), (21, 20), (29, 0))  # an IoU of 9/11, 1, 9/11, 0
    matches, counts, found = tool['matched'](pred, truth, squares(), 0.75)
    assert matches.tolist() == [True, False, True, False]
    assert found.tolist() == [True, True, False]
    assert counts.all()
    assert not tool['matched'](pred, truth, squares(), 0.9)[0][[0, 2]].any()


def test_a_mask_of_another_class_is_wrong(tool, squares):
    truth, pred = squares((0, 0), labels=[1]), squares((0, 0), (0, 0), labels=[0, 1])
    matches, counts, found = tool['matched'](pred, truth, squares((0, 0)), 0.75)
    assert matches.tolist() == [False, True]
    assert counts.tolist() == [False, True]  # the first lies in a crowd of its class
    assert found.tolist() == [True]
    counts = tool['matched'](pred, truth, squares((0, 0), labels=[2]), 0.75)[1]
    assert counts.all()


def test_what_lies_in_a_crowd_does_not_count(tool, squares):
    pred = squares((2, 2), (20, 20))
    matches, counts, found = tool['matched'](pred, squares(), squares((0, 0), side=20), 0.75)
    assert not matches.any()
    assert counts.tolist() == [False, True]
    assert found.size == 0


def test_without_masks_nothing_matches(tool, squares):
    matches, counts, found = tool['matched'](squares(), squares((0, 0)), squares(), 0.5)
    assert (matches.size, counts.size, found.tolist()) == (0, 0, [False])


def test_right_wrong_and_missed_have_their_colours(tool, squares):
    truth, pred = squares((0, 0), (20, 0)), squares((0, 0), (0, 20))
    picture = np.zeros((40, 40, 3), np.uint8)
    tile = tool['judged']('a', picture, pred, truth, squares(), 0.75, 2)[24:, :80]
    found = {place: tuple(tile[2 * place[0], 2 * place[1]]) for place in [(0, 0), (0, 20), (20, 0)]}
    colours = (tool[name] for name in ('GREEN', 'RED', 'YELLOW'))
    assert found == dict(zip([(0, 0), (0, 20), (20, 0)], colours, strict=True))
    assert not tile[10, 10].any()  # within


@pytest.fixture
def shapes(tmp_path):
    """A config, fresh weights and options, and the annotations of two generated pictures."""
    data, weights, cfg = tmp_path / 'shapes', tmp_path / 'fresh.pth', config(SHAPES, 'fade')
    run('dataset_converters/make_shapes', data, '--images', 12, '--size', 32)
    torch.manual_seed(0)
    torch.save(dict(state_dict=build_model(load_config(str(cfg))).state_dict()), weights)
    options = ['model.test_cfg.rcnn.score_thr=0', f'test_dataloader.dataset.data_root={data}']
    options = ['--score', 0, '--cfg-options', *options]
    return (cfg, weights), options, data / 'annotations/instances_validation.json'


def test_models_are_laid_side_by_side(shapes, tmp_path, capsys):
    pair, options, annotations = shapes
    out = tmp_path / 'masks.png'
    run('compare_masks', *pair, *pair, '--out', out, '--rows', 2, '--zoom', 9, *options)
    # 4 tiles of 9 * 32 and a gap of 4; 2 rows, with captions of 24
    assert cv2.imread(str(out)).shape == (2 * (9 * 32 + 24), 4 * (9 * 32 + 4), 3)
    content = json.loads(annotations.read_text())
    name = content['images'][0]['file_name'].rpartition('.')[0]
    only = ['--out', out, '--pictures', name, '--stretch', *options]
    run('compare_masks', *pair, *only)
    first = cv2.imread(str(out))
    assert first.shape[0] == 32 + 24

    run('compare_masks', *pair, *only, 'test_dataloader.dataset.pipeline.2.with_mask=False')
    assert np.array_equal(cv2.imread(str(out)), first)  # the data set has them all the same

    grey = load_config(str(pair[0]), {'test_dataloader.dataset.pipeline.0.color_type': 'grayscale'})
    grey.test_dataloader.dataset.data_root = str(annotations.parents[1])
    picture = host_of(grey).true_masks(set_of(grey), 0)[0]
    assert picture.shape == (32, 32, 3)
    assert (picture == picture[..., :1]).all()

    other = tmp_path / 'other.py'
    files = dict(
        ann_file='annotations/instances_training.json', data_prefix=dict(img='images/training/')
    )
    test_loader = dict(dataset=files)
    other.write_text(f'_base_ = {str(pair[0])!r}\ntest_dataloader = {test_loader}\n')
    with pytest.raises(SystemExit, match=r'other\.py is tested on other pictures'):
        run('compare_masks', *pair, other, pair[1], *only)  # of the same name

    with pytest.raises(SystemExit, match=r'is of detection, not of instance segmentation'):
        run('compare_masks', config(BCCD, 'fade'), pair[1], '--out', out)
    with pytest.raises(SystemExit):
        run('compare_masks', *pair, '--out', out, '--iou', 2)
    assert '--iou above 0 and at most 1' in capsys.readouterr().err

    for instance in content['annotations']:
        del instance['segmentation']
    annotations.write_text(json.dumps(content))
    with pytest.raises(SystemExit, match=r'the test set has no masks for .*jpg'):
        run('compare_masks', *pair, *only)
