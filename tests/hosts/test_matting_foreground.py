"""Estimated foreground colours, on composites whose foregrounds are known."""

import time

import cv2
import numpy as np
import pytest

from fade_mm.hosts.matting.foreground import estimate_foreground
from fade_mm.hosts.matting.transforms import covering


def composite(fg, bg, alpha):
    return np.rint(fg * alpha[..., None] + bg * (1 - alpha[..., None])).astype(np.uint8)


def disc(h, w):
    """An alpha that falls from 1 to 0 over a sixteenth of the height."""
    ys, xs = np.mgrid[:h, :w]
    return (4.5 - np.hypot(ys - h / 2, xs - w / 2) / (h / 16)).clip(0, 1)


def test_one_colour_over_another_is_found():
    alpha = disc(120, 160)
    fg, bg = np.full((120, 160, 3), (40, 90, 200)), np.full((120, 160, 3), (250, 220, 10))
    image = composite(fg, bg, alpha)
    found = estimate_foreground(image, alpha)
    assert found.dtype == np.uint8
    between = (alpha > 0.05) & (alpha < 1)
    before, after = (np.abs(x.astype(int) - fg)[between] for x in (image, found))
    assert after.mean() < 0.12 * before.mean()
    assert after.max() < 30


def test_what_is_opaque_stays_to_the_bit():
    rng = np.random.default_rng(0)
    image, alpha = rng.integers(0, 256, (70, 50, 3)).astype(np.uint8), disc(70, 50)
    np.testing.assert_array_equal(estimate_foreground(image, alpha)[alpha == 1], image[alpha == 1])
    ones = np.ones((70, 50), np.float32)
    np.testing.assert_array_equal(estimate_foreground(image, ones), image)


def test_background_gets_the_colour_of_the_foreground_nearby():
    alpha = disc(80, 80)
    fg, bg = np.full((80, 80, 3), (30, 30, 220)), np.full((80, 80, 3), (200, 255, 0))
    found = estimate_foreground(composite(fg, bg, alpha), alpha)[alpha == 0].astype(int)
    assert np.abs(found - (30, 30, 220)).max() < 0.25 * 225  # from one to the other
    assert np.abs(found - (30, 30, 220)).mean() < 0.1 * 225


@pytest.mark.parametrize('shape', [(1, 1), (1, 30), (7, 5)])
@pytest.mark.parametrize('value', [0.0, 0.4, 1.0])
def test_tiny_pictures_and_constant_alphas(shape, value):
    image = np.full((*shape, 3), 77, np.uint8)
    found = estimate_foreground(image, np.full(shape, value))
    assert found.shape == image.shape
    if value:
        assert np.abs(found.astype(int) - 77).max() <= 1


def test_what_does_not_fit_is_said():
    image = np.zeros((4, 5, 3), np.uint8)
    with pytest.raises(ValueError, match=r'uint8 of shape .* got uint8 \(4, 5, 3\) and \(5, 4\)'):
        estimate_foreground(image, np.zeros((5, 4)))
    with pytest.raises(ValueError, match='got float64'):
        estimate_foreground(image / 255, np.zeros((4, 5)))


def test_real_composites_come_out_nearer_than_the_photograph(shared):
    """On six foregrounds over photographs, errors weighted by alpha are about half."""
    photo, found = [], []
    backgrounds = sorted((shared / 'coco128_seg/images').glob('*.jpg'))
    for i, path in enumerate(sorted((shared / 'matting/training/fg').glob('*.jpg'))[::8]):
        fg = cv2.imread(str(path))
        alpha = cv2.imread(str(path.parents[1] / f'alpha/{path.stem}.png'), 0) / 255
        bg = covering(cv2.imread(str(backgrounds[i])), *alpha.shape)
        image = composite(fg, bg[: len(alpha), : alpha.shape[1]], alpha)
        between = (alpha > 0.02) & (alpha < 0.98)
        for errors, colours in ((photo, image), (found, estimate_foreground(image, alpha))):
            off = np.abs(colours.astype(float) - fg)[between] * alpha[between][:, None]
            errors.append(off.mean())
    assert np.mean(found) < 0.55 * np.mean(photo)
    assert all(a < b for a, b in zip(found, photo, strict=True))


@pytest.mark.slow
def test_12_megapixels_take_seconds():
    image = np.random.default_rng(0).integers(0, 256, (3000, 4000, 3)).astype(np.uint8)
    start = time.perf_counter()
    estimate_foreground(image, disc(3000, 4000))
    assert time.perf_counter() - start < 60
