"""`UpsamplerVisualizationHook` writes the same few images at every evaluation."""

import pytest

from fade_mm.visualization import UpsamplerVisualizationHook
from tests.tools import BCCD, CAMVID, bccd_options, camvid_options, config, run


def with_hook(base, folder, images):
    """A config that adds the hook to another."""
    path = folder / 'hooked.py'
    path.write_text(f"""
_base_ = {str(base)!r}
custom_hooks = [dict(type='fade_mm.UpsamplerVisualizationHook', images={images})]
visualizer = dict(vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')])
""")
    return path


def test_segmentation_to_files_and_tensorboard(segmentation_root, tmp_path):
    cfg = with_hook(config(CAMVID, 'fade'), tmp_path, images=2)
    options = camvid_options(segmentation_root, **{'train_cfg.val_interval': 2})
    run('train', cfg, '--work-dir', tmp_path / 'work', '--cfg-options', *options)
    written = list((tmp_path / 'work').glob('*/vis_data/vis_image/**/*.png'))
    assert len(written) == 2 * 2 * 6 * 2  # evaluations, images, layers, gate and entropy
    assert list((tmp_path / 'work').rglob('events.out.tfevents.*'))


def test_detection_without_gates(detection_root, tmp_path):
    cfg = with_hook(config(BCCD, 'fade'), tmp_path, images=1)
    run(
        'train', cfg, '--work-dir', tmp_path / 'work',
        '--cfg-options', *bccd_options(detection_root),
    )  # fmt: skip
    written = list((tmp_path / 'work').glob('*/vis_data/vis_image/**/*.png'))
    assert len(written) == 3
    assert all('entropy' in path.name for path in written)


def test_no_images_are_refused():
    with pytest.raises(ValueError, match='images must be at least 1, got 0'):
        UpsamplerVisualizationHook(0)
