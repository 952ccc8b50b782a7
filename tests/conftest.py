"""Small generated data sets and configs for the tests that train."""

import json
import os
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
import torch

with suppress(ImportError):  # tests/ops and tests/upsamplers need torch alone
    import cv2
    import mmengine  # noqa: F401  before the test processes start: yapf, inside, makes a cache
    import numpy as np

# Before anything imports Triton.
os.environ.setdefault('TRITON_INTERPRET', '0' if torch.cuda.is_available() else '1')


def pytest_addoption(parser):
    parser.addoption('--backend', help='run everything on one backend of fade_mm.ops')


@pytest.fixture(scope='session', autouse=True)
def one_backend(request):
    """What ``--backend`` asks for."""
    from fade_mm.ops import use_backend

    name = request.config.getoption('--backend')
    with use_backend(name) if name else nullcontext():
        yield


@pytest.fixture(scope='session')
def shared():
    """Real data sets, in a folder beside the repository, that are no part of it."""
    folder = Path(__file__).parents[2] / 'shared' / 'data'
    if not folder.is_dir():
        pytest.skip('the real data sets are not there')
    return folder


@pytest.fixture
def segmentation_root(tmp_path):
    """Six training and three validation images of 64x48 in three classes, in CamVid's layout."""
    rng = np.random.default_rng(0)
    root = tmp_path / 'camvid'
    for split, count in (('training', 6), ('validation', 3)):
        for kind in ('images', 'annotations'):
            (root / kind / split).mkdir(parents=True)
        for index in range(count):
            labels = np.zeros((48, 64), np.uint8)
            x, y = rng.integers(4, 30, 2)
            labels[y : y + 14, x : x + 20] = 1
            cv2.circle(labels, (int(x) + 20, 20), 8, 2, -1)
            image = (labels[..., None] * 80 + rng.integers(0, 60, (48, 64, 3))).astype(np.uint8)
            cv2.imwrite(str(root / f'images/{split}/{index}.jpg'), image)
            cv2.imwrite(str(root / f'annotations/{split}/{index}.png'), labels)
    return root


@pytest.fixture
def depth_root(tmp_path):
    """Six training and three validation images of 64x48 with depth in millimetres."""
    return write_depth(tmp_path / 'nyu')


def write_depth(root):
    """The data set of `depth_root` in a folder, which is returned."""
    rng = np.random.default_rng(0)
    for split, count in (('training', 6), ('validation', 3)):
        for kind in ('images', 'depth'):
            (root / kind / split).mkdir(parents=True)
        for index in range(count):
            depth = np.linspace(2000, 6000, 64) * np.ones((48, 1))
            x, y = rng.integers(6, 30, 2)
            depth[y : y + 14, x : x + 20] = 1500
            image = (255 - depth[..., None] / 25 + rng.integers(0, 15, (48, 64, 3))).clip(0, 255)
            cv2.imwrite(str(root / f'images/{split}/{index}.jpg'), image.astype(np.uint8))
            cv2.imwrite(str(root / f'depth/{split}/{index}.png'), depth.astype(np.uint16))
    return root


@pytest.fixture
def detection_root(tmp_path):
    """Four training and two validation images of 64x48 with two boxes each, in BCCD's layout."""
    rng = np.random.default_rng(0)
    root = tmp_path / 'bccd'
    (root / 'images').mkdir(parents=True)
    for split, count in (('train', 4), ('val', 2)):
        images, annotations = [], []
        for index in range(count):
            name = f'{split}{index}.jpg'
            picture = rng.integers(0, 60, (48, 64, 3)).astype(np.uint8)
            for box, category in (((4, 6, 20, 20), 1), ((34, 12, 24, 30), 2)):
                x, y, w, h = box
                picture[y : y + h, x : x + w] += np.uint8(80 * category)
                annotations.append(
                    dict(
                        id=len(annotations) + 1,
                        image_id=index,
                        category_id=category,
                        bbox=box,
                        area=w * h,
                        iscrowd=0,
                        segmentation=[],
                    )
                )
            cv2.imwrite(str(root / 'images' / name), picture)
            images.append(dict(id=index, file_name=name, width=64, height=48))
        categories = [dict(id=i, name=n) for i, n in enumerate(('RBC', 'WBC', 'Platelets'), 1)]
        content = dict(images=images, annotations=annotations, categories=categories)
        (root / f'{split}.json').write_text(json.dumps(content))
    return root
