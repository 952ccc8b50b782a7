"""Each step of the augmentation against its definition, worked out without OpenCV."""

import colorsys
from unittest import mock

import cv2
import numpy as np
import pytest
from mmengine.dataset import Compose
from scipy import ndimage

from fade_mm.hosts.matting import transforms as steps
from fade_mm.hosts.matting.transforms import affine_matrix, covering


@pytest.fixture(autouse=True)
def _seeded():
    np.random.seed(0)


def foreground(h=40, w=56, seed=0):
    """Blobs that are opaque, transparent and in between, with random colours."""
    rng = np.random.default_rng(seed)
    alpha = ndimage.gaussian_filter(rng.normal(size=(h, w)), min(h, w) / 8)
    alpha = (4 * alpha / max(np.abs(alpha).max(), 1e-9) + 0.5).clip(0, 1).astype(np.float32)
    return dict(fg=rng.integers(0, 256, (h, w, 3)).astype(np.uint8), alpha=alpha)


def nearest(picture, h, w):
    """Resizing by taking the pixel at ``floor(i * old / new)``, as OpenCV does."""
    rows = np.arange(h) * picture.shape[0] // h
    columns = np.arange(w) * picture.shape[1] // w
    return picture[rows][:, columns]


def drawing(function, times=400, seed=0):
    np.random.seed(seed)
    return [function() for _ in range(times)]


# 1. A second foreground


@pytest.fixture
def second(tmp_path):
    other = foreground(33, 21, seed=5)
    cut_out = np.dstack([other['fg'], (255 * other['alpha']).astype(np.uint8)])
    cv2.imwrite(str(tmp_path / 'second.png'), cut_out)
    return str(tmp_path / 'second.png'), other['fg'], cut_out[..., 3] / np.float32(255)


def test_composite_fg(second):
    path, fg2, alpha2 = second
    sample = foreground()
    fg1, a1 = sample['fg'].astype(float), sample['alpha'].astype(float)
    a2, fg2 = nearest(alpha2, 40, 56).astype(float), nearest(fg2, 40, 56).astype(float)
    result = steps.CompositeFg(prob=1)(dict(sample, fg2_path=path))
    a = 1 - (1 - a1) * (1 - a2)
    np.testing.assert_allclose(result['alpha'], a, atol=1e-6)
    expected = (fg1 * a1[..., None] + fg2 * ((1 - a1) * a2)[..., None]) / (a[..., None] + 1e-5)
    assert result['fg'].dtype == np.uint8
    off = np.abs(result['fg'] - np.floor(expected))
    assert off.max() <= 1  # at a whole number, single and double precision may fall apart
    assert (off > 0).mean() < 0.02


def test_two_halves_leave_a_quarter(tmp_path):
    half = np.full((8, 8, 4), 51, np.uint8)  # alpha 0.2
    cv2.imwrite(str(tmp_path / 'x.png'), half)
    sample = dict(fg=half[..., :3], alpha=np.full((8, 8), 0.5, np.float32))
    result = steps.CompositeFg(prob=1)(dict(sample, fg2_path=str(tmp_path / 'x.png')))
    np.testing.assert_allclose(result['alpha'], 1 - 0.5 * 0.8, atol=1e-6)


def test_an_opaque_pair_stays_as_it_is(second):
    sample = dict(foreground(), alpha=np.ones((40, 56), np.float32), fg2_path=second[0])
    result = steps.CompositeFg(prob=1)(dict(sample))
    assert result['fg'] is sample['fg']
    assert result['alpha'] is sample['alpha']


def test_composite_fg_happens_with_its_probability(second):
    sample = dict(foreground(), fg2_path=second[0])
    step = steps.CompositeFg()
    changed = [x['fg'] is not sample['fg'] for x in drawing(lambda: step(dict(sample)))]
    assert 0.42 < np.mean(changed) < 0.58


# 2. Another size


def test_resize_fg():
    sample = foreground()
    result = steps.ResizeFg(scale=(30, 70), prob=1)(dict(sample))
    for key in ('fg', 'alpha'):
        np.testing.assert_array_equal(result[key], nearest(sample[key], 70, 30))
    step = steps.ResizeFg()
    sizes = [x['alpha'].shape for x in drawing(lambda: step(dict(sample)))]
    assert set(sizes) == {(40, 56), (640, 640)}
    assert 0.18 < sizes.count((640, 640)) / 400 < 0.32


# 3. Affine


def test_affine_matrix_is_flip_then_scale_then_turn_then_shear():
    size, angle, scale, shear, flips = (640, 480), 20.0, (1.2, 0.9), 7.0, (True, False)
    matrix = affine_matrix(size, angle, scale, shear, flips)
    a, b = np.deg2rad(angle), np.deg2rad(angle + shear)
    for x, y in ((0, 0), (100, 300), (639, 17)):
        u, v = x - 320.5, y - 240.5
        u = -u  # flipped
        u, v = 1.2 * u, 0.9 * v
        expected = np.cos(b) * u - np.sin(b) * v + 320.5, np.sin(a) * u + np.cos(a) * v + 240.5
        np.testing.assert_allclose(matrix @ [x, y, 1], expected)
    np.testing.assert_allclose(matrix @ [320.5, 240.5, 1], [320.5, 240.5])


def test_affine_without_anything_is_nothing():
    matrix = affine_matrix((9, 7), 0, (1, 1), 0, (False, False))
    np.testing.assert_allclose(matrix, [[1, 0, 0], [0, 1, 0]], atol=1e-12)


def test_affine_takes_the_nearest_pixels_and_nothing_from_outside():
    sample = foreground(48, 64)
    np.random.seed(3)
    with mock.patch.object(steps, 'affine_matrix', wraps=affine_matrix) as spy:
        result = steps.RandomAffine()(dict(sample))
    matrix = affine_matrix(*spy.call_args.args, **spy.call_args.kwargs)
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    ys, xs = np.mgrid[:48, :64]
    x, y, _ = inverse @ np.stack([xs.ravel(), ys.ravel(), np.ones(xs.size)])
    inside = (x > -0.5) & (x < 63.5) & (y > -0.5) & (y < 47.5)
    column, row = x.round().astype(int).clip(0, 63), y.round().astype(int).clip(0, 47)
    expected = np.where(inside, sample['alpha'][row, column], 0).reshape(48, 64)
    assert np.mean(result['alpha'] != expected) < 0.02  # OpenCV rounds in steps of 1/32
    colour = np.where(inside[:, None], sample['fg'][row, column], 0).reshape(48, 64, 3)
    assert np.mean(result['fg'] != colour) < 0.02
    assert not inside.all()


def test_affine_draws_what_the_recipe_says():
    step = steps.RandomAffine()

    def drawn(h, w):
        sample = dict(fg=np.zeros((h, w, 3), np.uint8), alpha=np.zeros((h, w), np.float32))
        with (
            mock.patch.object(steps, 'affine_matrix', return_value=np.eye(2, 3)) as spy,
            mock.patch.object(steps.cv2, 'warpAffine', side_effect=lambda x, *_, **__: x),
        ):
            step(sample)
        return spy.call_args.kwargs

    small, large = (drawing(lambda s=size: drawn(*s)) for size in ((4, 1023), (4, 1024)))
    assert {x['angle'] for x in small} == {0}
    angles = np.array([x['angle'] for x in large])
    assert -30 <= angles.min() < -27
    assert 27 < angles.max() <= 30
    scales = np.array([x['scale'] for x in small])
    assert 0.8 <= scales.min() < 0.81
    assert 1.24 < scales.max() <= 1.25
    assert abs(np.corrcoef(scales.T)[0, 1]) < 0.2  # x and y are independent
    shears = np.array([x['shear'] for x in small])
    assert -10 <= shears.min() < -9
    assert 9 < shears.max() <= 10
    flips = np.array([x['flips'] for x in small])
    assert np.all(abs(flips.mean(0) - 0.5) < 0.1)


# 4. Flip


def test_flip():
    sample = foreground()
    result = steps.Flip(flip_ratio=1)(dict(sample))
    for key in ('fg', 'alpha'):
        np.testing.assert_array_equal(result[key], np.fliplr(sample[key]))
        assert result[key].flags.c_contiguous
    step = steps.Flip()
    flipped = [x['fg'] is not sample['fg'] for x in drawing(lambda: step(dict(sample)))]
    assert 0.42 < np.mean(flipped) < 0.58


# 5. Trimap


@pytest.mark.parametrize('size', [1, 2, 5, 12, 29])
def test_trimap_erodes_each_region_once(size):
    alpha = foreground(90, 120)['alpha']
    trimap = steps.GenerateTrimap(kernel_size=size)(dict(alpha=alpha))['trimap']
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)).astype(bool)
    expected = np.full(alpha.shape, 128)
    for region, value in ((alpha >= 1 - 1e-5, 255), (alpha <= 1e-5, 0)):
        expected[ndimage.binary_erosion(region, ellipse, border_value=1)] = value
    assert trimap.dtype == np.uint8
    np.testing.assert_array_equal(trimap, expected)


def test_trimap_sizes_are_1_to_29_and_independent():
    with mock.patch.object(steps, 'trimap_of') as spy:
        step = steps.GenerateTrimap()
        drawing(lambda: step(dict(alpha=None)), 2000)
    sizes = np.array([call.args[1:] for call in spy.call_args_list])
    assert set(sizes[:, 0]) == set(sizes[:, 1]) == set(range(1, 30))
    assert abs(np.corrcoef(sizes.T)[0, 1]) < 0.1


@pytest.mark.parametrize('value', [0.0, 1.0, 0.5])
def test_trimap_of_one_value(value):
    alpha = np.full((6, 9), value, np.float32)
    trimap = steps.GenerateTrimap()(dict(alpha=alpha))['trimap']
    assert (trimap == {0.0: 0, 1.0: 255, 0.5: 128}[value]).all()


@pytest.mark.parametrize('size', [0, (0, 3), (3, 3)])
def test_trimap_sizes_that_are_none(size):
    with pytest.raises(ValueError, match='kernel_size'):
        steps.GenerateTrimap(kernel_size=size)


# 6. Crop


def numbered(h, w, unknown=()):
    """A sample whose pixels say where they were."""
    ys, xs = np.mgrid[:h, :w]
    trimap = np.zeros((h, w), np.uint8)
    for y, x in unknown:
        trimap[y, x] = 128
    return dict(
        fg=np.dstack([ys, xs, ys]).astype(np.uint8),
        alpha=(ys * w + xs).astype(np.float32),
        trimap=trimap,
        bg=np.dstack([ys, xs, xs]).astype(np.uint8),
    )


@pytest.mark.parametrize('crop', [8, 9, (8, 6)])
def test_crop_has_an_unknown_pixel_in_its_centre(crop):
    ch, cw = (crop, crop) if isinstance(crop, int) else crop
    unknown = [(y, x) for y in range(20, 24) for x in range(30, 33)]
    step, seen = steps.CropAroundCenter(crop), set()
    for result in drawing(lambda: step(numbered(50, 60, unknown)), 100):
        assert result['trimap'].shape == (ch, cw)
        top, left = result['fg'][0, 0, :2].tolist()
        assert result['alpha'][0, 0] == top * 60 + left
        assert result['bg'][0, 0, :2].tolist() == [top, left]
        centre = top + ch // 2, left + cw // 2
        assert centre in unknown
        assert result['trimap'][ch // 2, cw // 2] == 128
        seen.add(centre)
    assert len(seen) == len(unknown)


def test_crop_lies_anywhere_with_few_unknown_pixels():
    step = steps.CropAroundCenter(8)
    near_frame = [(y, x) for y in range(3) for x in range(60)]  # none can be in a centre
    for unknown in ([(25, 30)], near_frame):
        corners = [
            tuple(x['fg'][0, 0, :2].tolist())
            for x in drawing(lambda u=unknown: step(numbered(50, 60, u)), 4000)
        ]
        tops, lefts = (set(x) for x in zip(*corners, strict=True))
        assert tops == set(range(43))
        assert lefts == set(range(53))


@pytest.mark.parametrize('shape', [(50, 60), (5, 60), (3, 3)])
def test_without_unknown_pixels_all_is_resized(shape):
    sample = numbered(*shape)
    result = steps.CropAroundCenter(16)(dict(sample))
    assert {result[key].shape[:2] for key in ('fg', 'alpha', 'trimap', 'bg')} == {(16, 16)}
    if min(shape) > 16:
        np.testing.assert_array_equal(result['alpha'], nearest(sample['alpha'], 16, 16))


@pytest.mark.parametrize(
    ('shape', 'enlarged'),
    [((512, 700), (563, 770)), ((300, 512), (563, 961)), ((513, 600), (513, 600))],
)
def test_pictures_no_larger_than_a_crop_are_enlarged(shape, enlarged):
    sample = numbered(*shape, unknown=[(0, 0)])
    spread = np.random.default_rng(0).random(shape) < 0.3
    sample['trimap'][spread] = 128
    with mock.patch.object(np.random, 'randint', return_value=0):
        result = steps.CropAroundCenter(512)(dict(sample))
    grown = nearest(sample['trimap'], *enlarged)
    rows, columns = np.nonzero(grown[256:-256, 256:-256] == 128)
    corner = (rows[0], columns[0]) if len(rows) >= 10 else (0, 0)
    top, left = corner
    np.testing.assert_array_equal(result['trimap'], grown[top : top + 512, left : left + 512])


@pytest.mark.parametrize('shape', [(1, 1), (1, 300), (9, 9), (8, 30)])
@pytest.mark.parametrize('crop', [8, (8, 40)])
def test_crop_of_tiny_pictures(shape, crop):
    result = steps.CropAroundCenter(crop)(numbered(*shape, unknown=[(0, 0)]))
    size = (crop, crop) if isinstance(crop, int) else crop
    assert {result[key].shape[:2] for key in ('fg', 'alpha', 'trimap', 'bg')} == {size}


@pytest.mark.parametrize('shape', [(10, 10), (31, 7), (64, 48)])
def test_background_covers_in_its_proportions(shape):
    bg = foreground(40, 56)['fg']
    covered = covering(bg, *shape)
    factor = max(shape[0] / 40, shape[1] / 56)
    if factor <= 1:
        assert covered is bg
    else:
        assert covered.shape[:2] == (np.ceil(40 * factor), np.ceil(56 * factor))
        zoomed = cv2.resize(bg, covered.shape[1::-1], interpolation=cv2.INTER_CUBIC)
        np.testing.assert_array_equal(covered, zoomed)


# 7. Colours


def test_jitter_by_colorsys():
    sample = foreground(12, 15)
    draws = [17, -0.6, 0.9]
    with (
        mock.patch.object(np.random, 'randint', return_value=draws[0]) as turn,
        mock.patch.object(np.random, 'uniform', side_effect=lambda a, b: b * draws[spy()]),
    ):
        spy = mock.Mock(side_effect=[1, 2])
        result = steps.RandomJitter()(dict(sample))
    assert turn.call_args.args == (-40, 40)
    pixels = sample['fg'].reshape(-1, 3)[:, ::-1] / 255
    hsv = np.array([colorsys.rgb_to_hsv(*pixel) for pixel in pixels])
    visible = sample['alpha'].ravel() > 0
    for channel in (1, 2):
        mean = hsv[visible, channel].mean()
        moved = np.abs(hsv[:, channel] + (1.1 - mean) / 10 * draws[channel])
        hsv[:, channel] = np.where(moved > 1, 2 - moved, moved)
    hsv[:, 0] = (hsv[:, 0] + 17 / 360) % 1
    expected = 255 * np.array([colorsys.hsv_to_rgb(*x) for x in hsv])[:, ::-1]
    assert result['fg'].dtype == np.float32
    np.testing.assert_allclose(result['fg'].reshape(-1, 3), expected, atol=2e-2)


def test_jitter_leaves_what_is_transparent():
    sample = dict(foreground(), alpha=np.zeros((40, 56), np.float32))
    assert steps.RandomJitter()(dict(sample))['fg'] is sample['fg']


def test_jitter_turns_hues_by_less_than_40_degrees():
    red = dict(fg=np.full((1, 1, 3), (0, 0, 255), np.uint8), alpha=np.ones((1, 1), np.float32))
    hues = []
    for result in drawing(lambda: steps.RandomJitter()(dict(red)), 1500):
        b, g, r = result['fg'][0, 0] / 255
        hues.append(round((colorsys.rgb_to_hsv(r, g, b)[0] * 360 + 180) % 360 - 180))
    assert set(hues) == set(range(-40, 40))


# 8. Composite


@pytest.mark.parametrize('size', [(40, 56), (20, 30), (60, 90)])
def test_merge(size):
    sample = dict(foreground(), bg=foreground(*size, seed=3)['fg'])
    result = steps.MergeFgAndBg()(dict(sample))
    bg = covering(sample['bg'], 40, 56)[:40, :56].astype(float)
    a = sample['alpha'].astype(float)[..., None]
    np.testing.assert_allclose(result['img'], sample['fg'] * a + bg * (1 - a), atol=1e-4)
    assert result['img'].dtype == np.float32
    np.testing.assert_array_equal(result['bg'], bg)
    assert result['ori_shape'] == (40, 56)


# All of them


@pytest.mark.parametrize('shape', [(200, 130), (7, 5), (1, 40)])
@pytest.mark.parametrize('alpha', [None, 0.0, 1.0, 0.5])
def test_the_whole_recipe(shape, alpha, second):
    pipeline = Compose(
        [
            dict(type='fade_mm.CompositeFg'),
            dict(type='fade_mm.ResizeFg'),
            dict(type='fade_mm.RandomAffine'),
            dict(type='fade_mm.Flip'),
            dict(type='fade_mm.GenerateTrimap'),
            dict(type='fade_mm.CropAroundCenter', crop_size=96),
            dict(type='fade_mm.RandomJitter'),
            dict(type='fade_mm.MergeFgAndBg'),
            dict(type='fade_mm.PackMattingInputs'),
        ]
    )
    sample = dict(foreground(*shape), bg=foreground(50, 70)['fg'], fg2_path=second[0])
    if alpha is not None:
        sample['alpha'] = np.full(shape, alpha, np.float32)

    def packed(seed):
        np.random.seed(seed)
        return pipeline(dict(sample))

    for seed in range(3):
        result, again = packed(seed), packed(seed)
        assert result['inputs'].equal(again['inputs'])
        assert result['inputs'].shape == (3, 96, 96)
        truth = result['data_samples']
        a, fg, bg = truth.gt_alpha, truth.gt_fg, truth.gt_bg
        assert (result['inputs'] - (a * fg + (1 - a) * bg)).abs().max() < 1e-3
        known = truth.trimap != 128
        off = (a[known] - (truth.trimap[known] == 255).float()).abs()
        assert not (off > 1e-5).any()
