"""`UpsamplerVisualizationHook` writes the same few images at every evaluation."""

from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from fade_mm.analysis.hooks import UpsamplerVisualizationHook
from tests.tools import BCCD, CAMVID, bccd_options, camvid_options, config, run

from .test_views import SCALED, Padded, sample


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


@pytest.mark.slow
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


def evaluated(model, *samples):
    """A runner after its evaluation, with what the hook drew and said."""
    runner = SimpleNamespace(
        model=model,
        val_dataloader=SimpleNamespace(dataset=samples),
        visualizer=Mock(),
        logger=Mock(),
        iter=7,
    )
    UpsamplerVisualizationHook(len(samples)).after_val_epoch(runner)
    drawn = {call.args[0]: call.args[1] for call in runner.visualizer.add_image.call_args_list}
    return drawn, [call.args[0] for call in runner.logger.warning.call_args_list]


@pytest.mark.parametrize('shape', [(240, 340), (256, 352)], ids=['as-it-is', 'padded'])
def test_pictures_are_what_the_model_sees_without_padding(shape):
    given = sample(shape, img_shape=shape, **SCALED)
    given['inputs'][0] = 200  # blue
    drawn, said = evaluated(Padded(rows=25), given)
    assert list(drawn) == ['image0.up.entropy', 'image0.up.gate']
    gate = drawn['image0.up.gate']  # RGB
    assert gate.shape == (240, 340, 3)
    assert gate[..., 2].min() >= 80  # of the blue picture, 0.4 shine through
    change = np.abs(np.diff(gate.astype(int), axis=0)).max((1, 2))
    assert change.nonzero()[0].tolist() == [199]
    assert not said


def test_samples_without_a_picture_are_skipped_with_a_word():
    drawn, said = evaluated(Padded(rows=1), dict(inputs=[torch.zeros(3, 8, 8)]))
    assert not drawn
    assert said == ['sample 0 has no picture to draw gates on']


def test_sliding_windows_are_not_taken_for_whole_pictures():
    model = Padded(rows=1)
    model.test_cfg = dict(mode='slide')
    drawn, said = evaluated(model, sample())
    assert not drawn
    assert 'model.test_cfg.mode=whole' in said[0]
