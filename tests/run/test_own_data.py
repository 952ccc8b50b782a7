"""Pictures, labels and class names that do not fit are named before any time is spent."""

import json

import cv2
import numpy as np
import pytest
from mmengine.registry import DefaultScope
from mmseg.datasets import BaseSegDataset
from PIL import Image

from fade_mm.hosts.mmseg import MMSegHost
from fade_mm.run.data import NamingPipeline
from tests.tools import BCCD, CAMVID, bccd_options, camvid_options, config, run

FIRST = 'annotations/training/0.png'


def train_segmentation(root, tmp_path, **options):
    run(
        'train', config(CAMVID, 'bilinear'), '--work-dir', tmp_path / 'w',
        '--cfg-options', *camvid_options(root, **options),
    )  # fmt: skip


def train_detection(root, tmp_path, *options, loader='train'):
    """Train, or test, if the data is for that; what is tested is looked at after the data."""
    weights = tmp_path / 'weights.pth'
    weights.touch()
    tool, *what = ('test', weights) if loader == 'test' else ('train',)
    run(
        tool, config(BCCD, 'fade'), *what, '--work-dir', tmp_path / 'w',
        '--cfg-options', *bccd_options(root), *options,
    )  # fmt: skip


def first_labels(root, split='training'):
    path = root / f'annotations/{split}/0.png'
    return path, cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def broken(change, split='training'):
    """A function that writes changed labels of a split's first picture."""

    def write(root):
        path, labels = first_labels(root, split)
        cv2.imwrite(str(path), change(labels))
        return path

    return write


def palette(root):
    path, labels = first_labels(root)
    picture = Image.fromarray(labels, 'P')
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    picture.save(path)


def turned(root):
    path = root / 'images/training/0.jpg'
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(path).save(path, exif=exif)
    return root / FIRST


def read(root, orientation, size, color_type='color', labels=True):
    """A random picture whose file asks to be turned, as stored, and as a data set reads it."""
    stored = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(root / 'turned.png', exif=exif)
    Image.fromarray(np.zeros(size, np.uint8)).save(root / 'labels.png')
    loads = [dict(type='LoadImageFromFile', color_type=color_type)]
    loads += [dict(type='LoadAnnotations')] * labels
    with DefaultScope.overwrite_default_scope('mmseg'):
        dataset = BaseSegDataset(
            data_root=str(root), data_prefix=dict(img_path='', seg_map_path=''),
            img_suffix='turned.png', seg_map_suffix='labels.png',
            metainfo=dict(classes=('a',)), pipeline=[*loads, dict(type='PackSegInputs')],
        )  # fmt: skip
    dataset.pipeline = NamingPipeline(dataset.pipeline, dataset, MMSegHost())
    seen = [dataset[0]['inputs'].numpy().transpose(1, 2, 0)[..., ::-1] for _ in range(2)]
    assert np.array_equal(*seen)
    return stored, seen[0]


@pytest.fixture
def told(monkeypatch):
    """What the log gets."""
    messages = []
    monkeypatch.setattr('fade_mm.run.data.print_log', lambda text, *_: messages.append(text))
    return messages


TURNS = {
    2: np.fliplr,
    3: lambda x: np.rot90(x, 2),
    4: np.flipud,
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
    8: np.rot90,
}


@pytest.mark.parametrize('orientation', TURNS)
def test_a_turn_that_sizes_cannot_show_is_told_once(orientation, tmp_path, told):
    stored, seen = read(tmp_path, orientation, (8, 8))
    assert np.array_equal(seen, TURNS[orientation](stored))
    assert len(told) == 1
    assert told[0].startswith(f'{tmp_path}/turned.png was turned')
    assert f'EXIF orientation {orientation}' in told[0]


@pytest.mark.parametrize(
    'how',
    [
        dict(orientation=1, size=(8, 12)),
        dict(orientation=3, size=(8, 12), color_type='color_ignore_orientation'),
        dict(orientation=3, size=(8, 12), labels=False),
    ],
    ids=['not turned', 'read as stored', 'without labels'],
)
def test_nothing_is_told_of_what_fits(how, tmp_path, told):
    stored, seen = read(tmp_path, **how)
    assert np.array_equal(seen, stored) is ('labels' not in how)
    assert not told


@pytest.mark.parametrize(
    ('breaks', 'message'),
    [
        (broken(lambda x: np.dstack([x] * 3)), 'has 3 channels; a label map has one'),
        (broken(lambda x: x.astype(np.uint16) + 259), 'has label 2(59|60|61); labels are 8-bit'),
        (broken(lambda x: x[:-4]), 'has 44 rows and 64 columns, its picture .* 48 and 64'),
        (broken(lambda x: x[:-4], 'validation'), 'has 44 rows and 64 columns'),
        (turned, 'its picture .* 64 and 48; its file asks to be turned .EXIF orientation 6'),
    ],
    ids=['colours', 'large', 'size', 'size-in-validation', 'turned'],
)
@pytest.mark.parametrize('workers', [0, pytest.param(1, marks=pytest.mark.slow)])
def test_label_maps_that_do_not_fit_are_named(
    breaks, message, workers, segmentation_root, tmp_path
):
    path = breaks(segmentation_root)
    with pytest.raises(SystemExit, match=f'error: .*{path.name}.* {message}') as stop:
        train_segmentation(
            segmentation_root, tmp_path,
            **{f'{x}_dataloader.num_workers': workers for x in ('train', 'val')},
        )  # fmt: skip
    assert '\n' not in str(stop.value)


@pytest.mark.slow
def test_a_palette_is_no_colour(segmentation_root, tmp_path):
    palette(segmentation_root)
    train_segmentation(segmentation_root, tmp_path, iterations=1)
    assert (tmp_path / 'w/iter_1.pth').exists()


def test_one_sigmoid_channel_trains_and_is_scored(segmentation_root, tmp_path):
    """mmsegmentation predicts label maps of floating-point numbers then."""
    for path in (segmentation_root / 'annotations').rglob('*.png'):
        cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED).clip(0, 1))
    two = {
        f'{x}_dataloader.dataset.metainfo.classes': "['a','b']" for x in ('train', 'val', 'test')
    }
    two |= {
        f'{x}_dataloader.dataset.metainfo.palette': '[[0,0,0],[9,9,9]]'
        for x in ('train', 'val', 'test')
    }
    train_segmentation(
        segmentation_root, tmp_path, iterations=1,
        **two,
        **{
            'model.decode_head.num_classes': 2,
            'model.decode_head.out_channels': 1,
            'model.decode_head.threshold': 0.3,
            'model.decode_head.loss_decode.use_sigmoid': True,
        },
    )  # fmt: skip
    log = next((tmp_path / 'w').glob('*/vis_data/scalars.json')).read_text()
    assert 'mBIoU' in log


def classes(value, loader='train'):
    return f'{loader}_dataloader.dataset.metainfo.classes={value}'


@pytest.mark.parametrize('loader', ['train', 'val', 'test'])
@pytest.mark.parametrize(
    ('value', 'right'),
    [
        ("['RBC','Wbc','Platelets']", r"'RBC', 'WBC', 'Platelets'"),
        ("['WBC','RBC','Platelets']", r"'RBC', 'WBC', 'Platelets'"),
    ],
    ids=['misspelt', 'another order'],
)
def test_class_names_that_a_file_has_not_are_told(value, right, loader, detection_root, tmp_path):
    file = 'train' if loader == 'train' else 'val'
    message = rf'{loader}_dataloader: .*{file}\.json has \(RBC, WBC, Platelets\).*{right}'
    with pytest.raises(SystemExit, match=message) as stop:
        train_detection(detection_root, tmp_path, classes(value, loader), loader=loader)
    assert f'Write {loader}_dataloader.dataset.metainfo=dict(classes=(' in str(stop.value)


def test_no_class_of_a_file_is_named(detection_root, tmp_path):
    for loader in ('train', 'val'):
        message = (
            rf'{loader}_dataloader: .*{loader}\.json has \(RBC, WBC, Platelets\), and none of .*, '
            r"\(a, b, c, d, e, \.\.\.\)\. .*classes=\('RBC', 'WBC'"
        )
        with pytest.raises(SystemExit, match=message):
            train_detection(detection_root, tmp_path, classes("['a','b','c','d','e','f']", loader))
    with pytest.raises(SystemExit, match='the data set has no samples'):
        train_detection(detection_root, tmp_path, classes("['nuclei']"), 'check_classes=False')


@pytest.mark.parametrize('loader', ['train', 'val', 'test'])
@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('ann_file=gone.json', r'the data set is not there: .*gone\.json'),
        ('data_prefix.img=gone/', r'[24] files of the data set are missing.*\n.*gone/'),
    ],
)
def test_a_path_that_is_wrong_in_one_set_names_it(
    option, message, loader, detection_root, tmp_path
):
    with pytest.raises(SystemExit, match=f'error: {loader}_dataloader: {message}'):
        train_detection(
            detection_root, tmp_path, f'{loader}_dataloader.dataset.{option}', loader=loader
        )


@pytest.mark.parametrize('loader', ['train', 'val', 'test'])
def test_a_text_is_not_taken_for_its_letters(loader, detection_root, tmp_path):
    with pytest.raises(SystemExit, match=rf"{loader}_dataloader: .*'uav'.* 3 classes.*\('uav',\)"):
        train_detection(detection_root, tmp_path, classes('uav', loader), loader=loader)


def test_a_file_without_categories_is_named(detection_root, tmp_path):
    path = detection_root / 'val.json'
    path.write_text(json.dumps({**json.loads(path.read_text()), 'categories': []}))
    with pytest.raises(SystemExit, match=r'error: val_dataloader: .*val\.json has no categories'):
        train_detection(detection_root, tmp_path)


def test_annotations_of_no_category_are_named(detection_root, tmp_path):
    """The library leaves them out in silence."""
    path = detection_root / 'train.json'
    content = json.loads(path.read_text())
    for item in content['annotations']:
        item['category_id'] -= 1  # counted from 0, where the categories are counted from 1
    path.write_text(json.dumps(content))
    message = (
        r'train_dataloader: .*train\.json has 4 annotations with category_id 0, and no category'
    )
    with pytest.raises(SystemExit, match=message + r'.* has 1 \(RBC\), 2 \(WBC\)') as stop:
        train_detection(detection_root, tmp_path)
    assert '\n' not in str(stop.value)


@pytest.mark.slow
def test_class_names_that_are_not_checked(detection_root, tmp_path):
    train_detection(
        detection_root, tmp_path, classes("['RBC','Wbc','Platelets']"), 'check_classes=False'
    )
    assert (tmp_path / 'w/epoch_1.pth').exists()


def test_a_picture_of_another_size_than_its_boxes(detection_root, tmp_path):
    path = detection_root / 'train.json'
    content = json.loads(path.read_text())
    content['images'][1].update(width=48, height=64)
    path.write_text(json.dumps(content))
    message = r'train1\.jpg has 48 rows and 64 columns, its annotations are for 64 and 48'
    with pytest.raises(SystemExit, match=message):
        train_detection(detection_root, tmp_path)
