"""Depth: data sets, transforms, what is said of wrong maps, pictures."""

import cv2
import numpy as np
import pytest
from mmengine.registry import DATASETS, TRANSFORMS, DefaultScope
from mmengine.structures import PixelData
from mmseg.datasets.transforms import LoadDepthAnnotation
from mmseg.structures import SegDataSample

from fade_mm.errors import SetupError
from fade_mm.hosts.depth.dataset import DepthDataset
from fade_mm.hosts.depth.maps import CheckedDepth
from fade_mm.hosts.depth.transforms import FixedCrop, RandomGammaBrightnessColor
from fade_mm.hosts.depth.visualizer import DepthVisualizer
from fade_mm.run import load_config
from tests.tools import ROOT


def names(dataset, root):
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    return [
        tuple(info[key].removeprefix(f'{root}/') for key in ('img_path', 'depth_map_path'))
        for info in infos
    ]


def test_folders_are_paired_by_name_at_any_depth(tmp_path):
    for place in ('images/b.jpg', 'images/kitchen/a.jpg', 'images/notes.txt'):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    assert names(DepthDataset(data_root=str(tmp_path)), tmp_path) == [
        ('images/b.jpg', 'depth/b.png'),
        ('images/kitchen/a.jpg', 'depth/kitchen/a.png'),
    ]


def test_lists_are_read_as_bts_writes_them(tmp_path):
    (tmp_path / 'list.txt').write_text(
        '/kitchen_1/rgb_1.jpg /kitchen_1/sync_depth_1.png 518.8579\n'
        'bath/rgb_45.jpg bath/sync_depth_45.png 518.8579\n'
        '\n'
        'drive/2.png None 721.5377\n'
    )
    prefix = dict(img_path='sync', depth_map_path='sync')
    dataset = DepthDataset('list.txt', data_root=str(tmp_path), data_prefix=prefix)
    assert names(dataset, tmp_path) == [
        ('sync/kitchen_1/rgb_1.jpg', 'sync/kitchen_1/sync_depth_1.png'),
        ('sync/bath/rgb_45.jpg', 'sync/bath/sync_depth_45.png'),
    ]
    (tmp_path / 'list.txt').write_text('a.jpg a.png\nb.jpg 518\n')
    with pytest.raises(SetupError, match=r"list\.txt, line 2, must name .* got 'b\.jpg 518'"):
        DepthDataset('list.txt', data_root=str(tmp_path), data_prefix=prefix)


def built(pipeline):
    with DefaultScope.overwrite_default_scope('mmseg'):
        return [TRANSFORMS.build(step) for step in pipeline]


def test_bts_pipeline_crops_turns_and_flips_both_and_leaves_depth_in_metres(tmp_path):
    """Depth is a function of the picture's colour here, and stays it."""
    cfg = load_config(str(ROOT / 'configs/bts/bts_r50_nearest_1xb4-50e_nyu-416x544.py'))
    y, x = np.mgrid[:480, :640]
    levels = (40 + 60 * (x > 320) + 90 * (y > 240)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / 'a.png'), np.stack([levels] * 3, -1))
    cv2.imwrite(str(tmp_path / 'd.png'), levels.astype(np.uint16) * 20)
    *steps, pack = built(cfg.train_dataloader.dataset.pipeline)
    colour = steps.pop()
    assert type(colour) is RandomGammaBrightnessColor
    for seed in range(4):
        np.random.seed(seed)
        sample = dict(
            img_path=str(tmp_path / 'a.png'), depth_map_path=str(tmp_path / 'd.png'), seg_fields=[]
        )
        for step in steps:
            sample = step(sample)
        image, depth = sample['img'], sample['gt_depth_map']
        assert image.shape == (416, 544, 3)
        assert (depth.shape, depth.dtype) == ((416, 544), np.float32)
        inside = image[..., 0] == np.round(depth * 50)  # bilinear and nearest differ at edges
        assert inside.mean() > 0.98
        assert set(np.round(np.unique(depth), 3)) <= {0, *np.float32([0.8, 2.0, 2.6, 3.8]).round(3)}
        packed = pack(colour(sample))
        assert packed['data_samples'].gt_depth_map.data.shape == (1, 416, 544)


def test_fixed_crop():
    img = np.arange(6 * 8 * 3).reshape(6, 8, 3)
    out = FixedCrop((1, 5, 2, 8))(dict(img=img, d=img[..., 0], seg_fields=['d']))
    np.testing.assert_array_equal(out['img'], img[1:5, 2:8])
    np.testing.assert_array_equal(out['d'], img[1:5, 2:8, 0])
    assert out['img_shape'] == (4, 6)
    with pytest.raises(ValueError, match='the picture has 6 rows and 8 columns, but box is'):
        FixedCrop((0, 7, 0, 8))(dict(img=img))
    with pytest.raises(ValueError, match=r'box must be \(top, bottom, left, right\)'):
        FixedCrop((5, 1, 0, 8))


def test_colours_change_as_in_bts(monkeypatch):
    img = np.random.default_rng(0).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    transform = RandomGammaBrightnessColor(prob=1.0)
    monkeypatch.setattr(transform, 'draw', lambda: (0.9, 1.2, np.array([0.9, 1.0, 1.1])))
    out = transform(dict(img=img))['img']
    for place in np.ndindex(4, 5, 3):
        value = (img[place] / 255) ** 0.9 * 1.2 * (0.9, 1.0, 1.1)[place[2]]
        assert out[place] == pytest.approx(255 * min(value, 1), abs=1e-3)
    assert out.dtype == np.float32
    assert RandomGammaBrightnessColor(prob=0.0)(dict(img=img))['img'] is img


def test_colours_are_drawn_from_the_whole_ranges_half_of_the_time():
    np.random.seed(0)
    transform = RandomGammaBrightnessColor()
    drawn = [transform.draw() for _ in range(2000)]
    changed = [x for x in drawn if x]
    assert 0.45 < len(changed) / len(drawn) < 0.55
    for values, (low, high) in (
        ([x[0] for x in changed], (0.9, 1.1)),
        ([x[1] for x in changed], (0.75, 1.25)),
        ([c for x in changed for c in x[2]], (0.9, 1.1)),
    ):
        assert low <= min(values) < low + 0.01
        assert high - 0.01 < max(values) <= high


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (np.full((4, 6), 9, np.uint8), 'has 8 bits a pixel, .*depth_from_8bit'),
        (np.full((4, 6, 3), 9, np.uint8), r'has colours \(RGB\)'),
        (np.full((6, 4), 9, np.uint16), r'has 6 rows and 4 columns, its picture .* 4 and 6'),
    ],
)
def test_maps_that_cannot_be_right_are_named(content, message, tmp_path):
    path = str(tmp_path / 'd.png')
    cv2.imwrite(path, content)
    load = CheckedDepth(LoadDepthAnnotation(depth_rescale_factor=1e-3))
    sample = dict(img_path='a.jpg', depth_map_path=path, ori_shape=(4, 6), seg_fields=[])
    with pytest.raises(SetupError, match=message):
        load(sample)


def test_maps_that_are_right_are_read(tmp_path):
    path = str(tmp_path / 'd.png')
    cv2.imwrite(path, np.full((4, 6), 2500, np.uint16))
    load = CheckedDepth(LoadDepthAnnotation(depth_rescale_factor=1e-3))
    sample = dict(img_path='a.jpg', depth_map_path=path, ori_shape=(4, 6), seg_fields=[])
    assert load.depth_rescale_factor == 1e-3
    np.testing.assert_allclose(load(sample)['gt_depth_map'], 2.5)


def test_names_of_a_config_find_them():
    with DefaultScope.overwrite_default_scope('mmseg'):
        assert DATASETS.get('fade_mm.DepthDataset') is DepthDataset
        assert TRANSFORMS.get('fade_mm.FixedCrop') is FixedCrop


def test_a_drawing_has_picture_truth_prediction_and_their_common_scale():
    image = np.full((60, 40, 3), 7, np.uint8)
    truth, pred = np.full((1, 60, 40), 1.0), np.full((1, 60, 40), 5.0)
    truth[:, 30:], truth[:, :5] = 3.0, 0.0
    sample = SegDataSample(
        gt_depth_map=PixelData(data=truth), pred_depth_map=PixelData(data=pred)
    ).to_tensor()
    visualizer = DepthVisualizer(name='drawn')
    visualizer.add_datasample('', image, sample)
    drawn = visualizer.get_image()
    assert drawn.shape == (60, 3 * 40 + 64, 3)
    np.testing.assert_array_equal(drawn[:, :40], image)
    near, far, unknown = drawn[20, 60], drawn[40, 60], drawn[2, 60]
    assert not unknown.any()
    assert near[2] > near[0]  # blue
    assert far[0] > far[2]  # yellow
    assert (drawn[:, 80:120] == far).all()  # further than the truth's furthest
    np.testing.assert_array_equal(drawn[0, 124], far)  # the scale's top
    visualizer.add_datasample('', image, sample, draw_gt=False)
    assert visualizer.get_image().shape == (60, 2 * 40 + 64, 3)
