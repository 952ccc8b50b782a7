"""The generated data set is deterministic, whole, and read by the stock data sets."""

import hashlib

import cv2
import numpy as np
import pytest
from mmdet.datasets import CocoDataset
from mmseg.datasets import BaseSegDataset
from pycocotools.coco import COCO

from tests.tools import run


def make(out, *arguments):
    run('dataset_converters/make_shapes', out, *arguments)
    return out


def digest(root):
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob('*')
        if path.is_file()
    }


@pytest.fixture
def shapes(tmp_path):
    return make(tmp_path / 'shapes', '--images', 12, '--size', 64)


def test_same_seed_same_files(shapes, tmp_path):
    again = make(tmp_path / 'again', '--images', 12, '--size', 64)
    other = make(tmp_path / 'other', '--images', 12, '--size', 64, '--seed', 1)
    assert digest(shapes) == digest(again)
    assert digest(shapes)['images/training/00000.jpg'] != digest(other)['images/training/00000.jpg']


def test_splits_differ(shapes):
    files = digest(shapes)
    assert files['images/training/00000.jpg'] != files['images/validation/00000.jpg']


def test_masks_and_labels_agree(shapes):
    """A pixel has the class of the one instance that shows there."""
    coco = COCO(str(shapes / 'annotations/instances_training.json'))
    for image in coco.imgs.values():
        stem = image['file_name'].removesuffix('.jpg')
        labels = cv2.imread(str(shapes / f'annotations/training/{stem}.png'), cv2.IMREAD_UNCHANGED)
        drawn = np.zeros((64, 64), int)
        taken = np.zeros((64, 64), int)
        for annotation in coco.imgToAnns[image['id']]:
            mask = coco.annToMask(annotation)
            assert mask.sum() == annotation['area'] >= 20
            x, y, w, h = annotation['bbox']
            ys, xs = np.nonzero(mask)
            assert (x, y, x + w, y + h) == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
            drawn[mask > 0] = annotation['category_id']
            taken += mask
        assert taken.max() <= 1
        assert np.array_equal(drawn, labels)


def test_every_class_occurs(shapes):
    labels = [cv2.imread(str(p), cv2.IMREAD_UNCHANGED) for p in shapes.rglob('*.png')]
    assert set(np.unique(labels)) == {0, 1, 2, 3, 4}


def test_stock_data_sets_read_it(shapes):
    segmentation = BaseSegDataset(
        data_root=str(shapes),
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        metainfo=dict(classes=('background', 'blob', 'ring', 'star', 'comb')),
        pipeline=[],
    )
    assert len(segmentation) == 12
    detection = CocoDataset(
        data_root=str(shapes),
        ann_file='annotations/instances_validation.json',
        data_prefix=dict(img='images/validation/'),
        metainfo=dict(classes=('blob', 'ring', 'star', 'comb')),
        pipeline=[],
    )
    assert len(detection) == 2
    assert detection[0]['instances']


def test_refuses_to_overwrite(shapes):
    before = digest(shapes)
    with pytest.raises(SystemExit, match='exists already'):
        make(shapes)
    assert digest(shapes) == before


def test_leaves_nothing_half_written(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError('disk full')

    monkeypatch.setattr(cv2, 'imwrite', fail)
    with pytest.raises(OSError, match='disk full'):
        make(tmp_path / 'shapes', '--images', 2)
    assert not (tmp_path / 'shapes').exists()
    monkeypatch.undo()
    make(tmp_path / 'shapes', '--images', 2)
    assert [path.name for path in tmp_path.iterdir()] == ['shapes']


@pytest.mark.parametrize('arguments', [('--images', 0), ('--size', 8), ('--seed', -1)])
def test_wrong_arguments_are_refused(arguments, tmp_path):
    with pytest.raises(SystemExit):
        make(tmp_path / 'shapes', *arguments)
    assert not (tmp_path / 'shapes').exists()
