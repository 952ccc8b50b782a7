"""Trimaps and mattes are read, and what is none is named."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import TRANSFORMS
from PIL import Image

from fade_mm.errors import SetupError
from fade_mm.hosts.matting.loading import (
    LoadAlpha,
    LoadBackground,
    LoadForeground,
    LoadTrimap,
    PackMattingInputs,
)
from fade_mm.hosts.matting.sample import MattingSample

H, W = 9, 13
GREY = np.random.default_rng(0).integers(0, 256, (H, W)).astype(np.uint8)
TRIMAP = np.random.default_rng(1).choice([0, 128, 255], (H, W)).astype(np.uint8)
PICTURE = np.random.default_rng(2).integers(0, 256, (H, W, 3)).astype(np.uint8)


def saved(folder, picture, name='x.png'):
    path = str(folder / name)
    assert cv2.imwrite(path, picture)
    return path


@pytest.mark.parametrize(
    ('stored', 'expected'),
    [
        (GREY, GREY / 255),
        (np.dstack([GREY] * 3), GREY / 255),
        (np.dstack([PICTURE, GREY]), GREY / 255),  # a picture's transparency
        (np.dstack([GREY] * 3 + [np.full_like(GREY, 255)]), GREY / 255),  # opaque
        (GREY.astype(np.uint16) * 251, GREY.astype(float) * 251 / 65535),
    ],
    ids=['grey', 'three', 'transparency', 'opaque', '16 bits'],
)
def test_alphas(stored, expected, tmp_path):
    alpha = LoadAlpha()(dict(alpha_path=saved(tmp_path, stored), img=PICTURE))['alpha']
    assert alpha.dtype == np.float32
    np.testing.assert_allclose(alpha, expected, atol=1e-6)


def test_a_grey_jpeg_stored_in_colour_is_grey(tmp_path):
    smooth = cv2.GaussianBlur(cv2.resize(GREY, (130, 90)), (0, 0), 5)
    path = saved(tmp_path, np.dstack([smooth] * 3), 'x.jpg')
    alpha = LoadAlpha()(dict(alpha_path=path))['alpha']
    assert np.abs(alpha - smooth / 255).max() < 0.05


def test_no_alpha_path_no_alpha():
    assert 'alpha' not in LoadAlpha()(dict(img=PICTURE))


def test_a_coloured_alpha_is_named(tmp_path):
    with pytest.raises(SetupError, match=r'matte .*x\.png is coloured'):
        LoadAlpha()(dict(alpha_path=saved(tmp_path, PICTURE)))


def test_an_alpha_of_another_size_is_named(tmp_path):
    path = saved(tmp_path, GREY[:-1])
    with pytest.raises(SetupError, match=r'x\.png has 8 rows and 13 columns, .*pic\.png 9 and 13'):
        LoadAlpha()(dict(alpha_path=path, img=PICTURE, img_path='pic.png'))


@pytest.mark.parametrize('stored', [TRIMAP, np.dstack([TRIMAP] * 3)], ids=['grey', 'three'])
def test_trimaps(stored, tmp_path):
    path = saved(tmp_path, stored)
    trimap = LoadTrimap()(dict(trimap_path=path, img=PICTURE))['trimap']
    assert trimap.dtype == np.uint8
    np.testing.assert_array_equal(trimap, TRIMAP)


@pytest.mark.parametrize(
    ('stored', 'message'),
    [
        (PICTURE, r'trimap .*x\.png is coloured'),
        (TRIMAP.astype(np.uint16), 'has uint16 values; a trimap has 8 bits'),
        (np.where(TRIMAP == 128, 127, TRIMAP).astype(np.uint8), 'has the values 127; a trimap'),
        (GREY, r'has the values \d+, \d+, \d+, \d+, \.\.\.; a trimap has 0 '),
        (TRIMAP[:, :-2], r'x\.png has 9 rows and 11 columns, its picture p\.jpg 9 and 13'),
    ],
    ids=['coloured', '16 bits', '127', 'matte', 'size'],
)
def test_what_is_no_trimap_is_named_in_a_line(stored, message, tmp_path):
    path = saved(tmp_path, stored)
    with pytest.raises(SetupError, match=message) as error:
        LoadTrimap()(dict(trimap_path=path, img=PICTURE, img_path='p.jpg'))
    assert '\n' not in str(error.value)


def test_files_that_are_missing_or_no_pictures(tmp_path):
    with pytest.raises(SetupError, match=r'no trimap .*nowhere\.png'):
        LoadTrimap()(dict(trimap_path=str(tmp_path / 'nowhere.png'), img=PICTURE))
    with pytest.raises(SetupError, match=r'p\.jpg has no trimap'):
        LoadTrimap()(dict(img=PICTURE, img_path='p.jpg'))
    for content in (b'', b'no picture'):
        (tmp_path / 'x.png').write_bytes(content)
        with pytest.raises(SetupError, match=r'x\.png cannot be read as a picture'):
            LoadTrimap()(dict(trimap_path=str(tmp_path / 'x.png'), img=PICTURE))


def test_a_trimap_is_made_of_an_alpha():
    alpha = np.zeros((40, 50), np.float32)
    alpha[:, 25:] = 1
    trimap = LoadTrimap(kernel_size=7)(dict(img=np.zeros((40, 50, 3)), alpha=alpha))['trimap']
    row = np.r_[[0] * 22, [128] * 6, [255] * 22]
    np.testing.assert_array_equal(trimap, np.tile(row, (40, 1)))


def test_a_cut_out_is_foreground_and_alpha(tmp_path):
    path = saved(tmp_path, np.dstack([PICTURE, GREY]))
    loaded = LoadForeground()(dict(fg_path=path))
    np.testing.assert_array_equal(loaded['fg'], PICTURE)
    np.testing.assert_allclose(loaded['alpha'], GREY / 255, atol=1e-6)
    deep = saved(tmp_path, np.dstack([PICTURE, GREY]).astype(np.uint16) * 257, 'deep.png')
    np.testing.assert_array_equal(LoadForeground()(dict(fg_path=deep))['fg'], PICTURE)


def test_a_palette_with_transparency_is_a_cut_out(tmp_path):
    rgba = np.dstack([PICTURE[..., ::-1], 255 * (GREY > 99).astype(np.uint8)])
    Image.fromarray(rgba).quantize(32, method=Image.Quantize.FASTOCTREE).save(tmp_path / 'x.png')
    alpha = LoadForeground()(dict(fg_path=str(tmp_path / 'x.png')))['alpha']
    with Image.open(tmp_path / 'x.png') as picture:
        assert picture.mode == 'P'
        expected = np.asarray(picture.convert('RGBA'))[..., 3]
    assert set(np.unique(expected)) == {0, 255}
    np.testing.assert_array_equal(alpha, expected / 255)


def test_foregrounds_that_lack_something_are_named(tmp_path):
    path = saved(tmp_path, PICTURE)
    with pytest.raises(SetupError, match=r'x\.png has no alpha matte and no transparency'):
        LoadForeground()(dict(fg_path=path))
    with pytest.raises(SetupError, match=r'a\.png has 8 rows and 13 columns'):
        LoadForeground()(dict(fg_path=path, alpha_path=saved(tmp_path, GREY[1:], 'a.png')))


@pytest.mark.parametrize(
    ('alpha', 'message'),
    [
        (np.full((H, W), 255, np.uint8), r'x\.png is opaque everywhere'),
        (np.zeros((H, W), np.uint8), r'x\.png is transparent everywhere: its largest alpha is 0,'),
        (GREY // 200, r'its largest alpha is 0\.0039, where 1 is opaque \(255 in 8 bits'),
        (np.full((H, W), 255, np.uint16), r'its largest alpha is 0\.0039'),
    ],
    ids=['opaque', 'transparent', 'of 0 and 1', '8 bits in 16'],
)
def test_alphas_that_cut_nothing_out_are_named(alpha, message, tmp_path):
    picture = PICTURE.astype(alpha.dtype)
    cut_out = dict(fg_path=saved(tmp_path, np.dstack([picture, alpha])))
    with pytest.raises(SetupError, match=message):
        LoadForeground()(cut_out)
    pair = dict(fg_path=saved(tmp_path, PICTURE, 'fg.png'), alpha_path=saved(tmp_path, alpha))
    with pytest.raises(SetupError, match=message):
        LoadForeground()(pair)


def test_faint_and_nearly_opaque_alphas_are_read(tmp_path):
    nearly = np.full((H, W), 255, np.uint8)
    nearly[0, 0] = 254
    for alpha in (np.full((H, W), 3, np.uint8), nearly):
        path = saved(tmp_path, np.dstack([PICTURE, alpha]))
        np.testing.assert_allclose(
            LoadForeground()(dict(fg_path=path))['alpha'], alpha / 255, atol=1e-6
        )


def test_a_grey_background_gets_three_channels(tmp_path):
    assert LoadBackground()(dict(bg_path=saved(tmp_path, GREY)))['bg'].shape == (H, W, 3)


def test_packing_for_training():
    composite = np.random.default_rng(3).random((H, W, 3)).astype(np.float32) * 255
    alpha = (GREY / 255).astype(np.float32)
    packed = PackMattingInputs()(
        dict(
            img=composite, trimap=TRIMAP, alpha=alpha, fg=PICTURE, bg=composite,
            img_path='x', ori_shape=(H, W),
        )
    )  # fmt: skip
    sample = packed['data_samples']
    assert isinstance(sample, MattingSample)
    assert packed['inputs'].dtype == torch.float32
    np.testing.assert_array_equal(packed['inputs'].permute(1, 2, 0), composite)
    assert sample.trimap.dtype == torch.uint8
    np.testing.assert_array_equal(sample.trimap[0], TRIMAP)
    np.testing.assert_array_equal(sample.gt_alpha[0], alpha)
    assert sample.gt_fg.dtype == sample.gt_bg.dtype == torch.float32
    np.testing.assert_array_equal(sample.gt_fg.permute(1, 2, 0), PICTURE)
    assert sample.metainfo == dict(img_path='x', ori_shape=(H, W))


def test_packing_for_a_picture_alone():
    packed = PackMattingInputs()(dict(img=PICTURE, trimap=TRIMAP, img_path='x'))
    assert packed['inputs'].dtype == torch.uint8
    assert packed['data_samples'].keys() == ['trimap']


def test_configs_build_them(tmp_path):
    pipeline = ['fade_mm.LoadTrimap', 'LoadImageFromFile', 'fade_mm.LoadAlpha']
    steps = [TRANSFORMS.build(dict(type=kind)) for kind in pipeline]
    assert type(steps[0]) is LoadTrimap
