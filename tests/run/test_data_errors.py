"""Bad data stops a run with the file or the key, before training where it can be known."""

import json

import cv2
import numpy as np
import pytest

from tests.tools import BCCD, CAMVID, bccd_options, camvid_options, config, run


def train_camvid(root, tmp_path, **options):
    options = camvid_options(root, iterations=2, **options)
    run(
        'train',
        config(CAMVID, 'bilinear'),
        '--work-dir',
        tmp_path / 'work',
        '--cfg-options',
        *options,
    )


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(SystemExit, match=r'nowhere.*\n?.*train_dataloader\.dataset\.data_root=DIR'):
        train_camvid(tmp_path / 'nowhere', tmp_path)


def test_a_missing_label_is_named_before_training(segmentation_root, tmp_path):
    lost = segmentation_root / 'annotations/training/3.png'
    lost.unlink()
    with pytest.raises(
        SystemExit, match=f'train_dataloader: 1 files of the data set are missing.*\n.*{lost}'
    ):
        train_camvid(segmentation_root, tmp_path)
    assert not list((tmp_path / 'work').rglob('*.pth'))


def test_a_wrong_suffix_finds_no_samples(segmentation_root, tmp_path):
    with pytest.raises(SystemExit, match=r'train_dataloader: .* no samples: .*camvid.*\.jpeg'):
        train_camvid(
            segmentation_root, tmp_path, **{'train_dataloader.dataset.img_suffix': '.jpeg'}
        )


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['images/training/0.jpg', 'annotations/training/0.png'])
@pytest.mark.parametrize('workers', [0, 1])
def test_a_corrupt_file_is_named(segmentation_root, tmp_path, kind, workers):
    broken = segmentation_root / kind
    broken.write_bytes(b'no picture')
    with pytest.raises(SystemExit, match=f'error: cannot read .*{broken}'):
        train_camvid(segmentation_root, tmp_path, **{'train_dataloader.num_workers': workers})


def test_a_label_beyond_the_classes_is_named(segmentation_root, tmp_path):
    path = segmentation_root / 'annotations/training/0.png'
    cv2.imwrite(str(path), np.full((48, 64), 7, np.uint8))
    with pytest.raises(SystemExit, match=f'{path} has label 7, but the data set has 3 classes'):
        train_camvid(segmentation_root, tmp_path)


def test_a_wrong_class_count_names_the_key(segmentation_root, detection_root, tmp_path):
    with pytest.raises(SystemExit, match=r'model\.decode_head\.num_classes is 4.*has 3 classes'):
        train_camvid(segmentation_root, tmp_path, **{'model.decode_head.num_classes': 4})
    options = bccd_options(detection_root, **{'model.roi_head.bbox_head.num_classes': 80})
    message = r'model\.roi_head\.bbox_head\.num_classes is 80, .* of train_dataloader has 3 classes'
    with pytest.raises(SystemExit, match=message):
        run('train', config(BCCD, 'fade'), '--work-dir', tmp_path / 'b', '--cfg-options', *options)


def test_a_missing_annotation_file_is_named(detection_root, tmp_path):
    (detection_root / 'train.json').unlink()
    with pytest.raises(SystemExit, match=r'train_dataloader: .*train\.json'):
        run(
            'train', config(BCCD, 'fade'), '--work-dir', tmp_path / 'b',
            '--cfg-options', *bccd_options(detection_root),
        )  # fmt: skip


@pytest.mark.parametrize(
    ('content', 'error'),
    [
        ('{"images": [', 'JSONDecodeError: '),
        ('[1, 2]', 'AssertionError: annotation file format'),
        (
            '{"categories": [{"id": 1, "name": "RBC"}], "images": [{"id": 1}]}',
            "KeyError: 'file_name'",
        ),
    ],
    ids=['broken', 'another layout', 'a key missing'],
)
def test_an_annotation_file_that_is_none_is_named(content, error, detection_root, tmp_path):
    (detection_root / 'val.json').write_text(content)
    message = rf'error: val_dataloader: .*val\.json cannot be read .* CocoDataset: {error}'
    with pytest.raises(SystemExit, match=message) as stop:
        run(
            'train', config(BCCD, 'fade'), '--work-dir', tmp_path / 'b',
            '--cfg-options', *bccd_options(detection_root),
        )  # fmt: skip
    assert '\n' not in str(stop.value)


def test_an_annotation_file_that_the_evaluator_misses_is_named(detection_root, tmp_path):
    options = bccd_options(detection_root, **{'val_evaluator.ann_file': 'gone.json'})
    with pytest.raises(SystemExit, match=r'val_evaluator: .*gone\.json'):
        run('train', config(BCCD, 'fade'), '--work-dir', tmp_path / 'b', '--cfg-options', *options)


def test_a_missing_image_of_a_coco_file_is_named(detection_root, tmp_path):
    content = json.loads((detection_root / 'val.json').read_text())
    (detection_root / 'images' / content['images'][1]['file_name']).unlink()
    with pytest.raises(SystemExit, match=r'val_dataloader: 1 files .*\n.*val1\.jpg'):
        run(
            'train', config(BCCD, 'fade'), '--work-dir', tmp_path / 'b',
            '--cfg-options', *bccd_options(detection_root),
        )  # fmt: skip
