"""A library that fade_mm has never heard of goes through all tools."""

import pickle

import cv2
import numpy as np
import pytest
import torch
import yaml

from fade_mm.hosts import host_of
from fade_mm.run import load_config
from tests.tools import run

CONFIG = """
custom_imports = dict(imports=['tests.hosts.toy'])
model = dict(
    type='Painter', upsample_cfg=dict(type='nearest'),
    data_preprocessor=dict(type='ImgDataPreprocessor'))
pipeline = [dict(type='LoadImageFromFile'), dict(type='Pack')]
data = dict(type='Pictures', data_root={root!r}, pipeline=pipeline)
train_dataloader = dict(
    batch_size=2, num_workers=0, dataset=data, sampler=dict(type='InfiniteSampler'))
val_dataloader = test_dataloader = dict(
    batch_size=1, num_workers=0, dataset=data, sampler=dict(type='DefaultSampler', shuffle=False))
val_evaluator = test_evaluator = dict(type='MeanError')
train_cfg = dict(type='IterBasedTrainLoop', max_iters=4, val_interval=4)
val_cfg = test_cfg = dict()
optim_wrapper = dict(optimizer=dict(type='Adam', lr=0.01))
default_hooks = dict(checkpoint=dict(
    type='CheckpointHook', interval=2, by_epoch=False, save_best='error'))
visualizer = dict(type='Easel')
randomness = dict(seed=3)
"""


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A config, the folder of its pictures, and the work dir of a training with FADE."""
    folder = tmp_path_factory.mktemp('toy')
    (folder / 'pictures').mkdir()
    rng = np.random.default_rng(0)
    for name in 'abc':
        cv2.imwrite(str(folder / f'pictures/{name}.png'), rng.integers(0, 255, (20, 28, 3)))
    (folder / 'painter.py').write_text(CONFIG.format(root=str(folder / 'pictures')))
    train(folder, 'whole')
    return folder


FADE = ('--cfg-options', 'model.upsample_cfg.type=fade')


def train(folder, work_dir, *arguments):
    run('train', folder / 'painter.py', '--work-dir', folder / work_dir, *arguments, *FADE)


def test_it_answers_for_its_own_models(trained):
    assert type(host_of(load_config(str(trained / 'painter.py')))).__name__ == 'ToyHost'


def test_trains_and_tells_what_it_was(trained):
    result = yaml.safe_load((trained / 'whole/result.yml').read_text())
    assert (result['task'], result['host']) == ('reconstruction', 'Painter')
    assert result['upsampler'] == 'FADE'
    assert 0 < result['scores']['error'] < 1
    assert list((trained / 'whole').glob('best_error_iter_4.pth'))  # less is better


def test_resumes_exactly(trained):
    part = trained / 'part'
    train(trained, 'part', '--resume', trained / 'whole/iter_2.pth')
    ours, theirs = (
        torch.load(folder / 'iter_4.pth', weights_only=False)['state_dict']
        for folder in (part, trained / 'whole')
    )
    assert any('upsampler.ker_generator' in key for key in ours)
    for key, value in ours.items():
        assert torch.equal(value, theirs[key]), key


def test_is_tested_kept_and_drawn(trained, tmp_path):
    run(
        'test', trained / 'painter.py', trained / 'whole/iter_4.pth', '--work-dir', tmp_path,
        '--out', tmp_path / 'kept.pkl', '--show-dir', tmp_path / 'drawn', *FADE,
    )  # fmt: skip
    assert len(pickle.loads((tmp_path / 'kept.pkl').read_bytes())) == 3
    for name in 'abc':
        drawn = cv2.imread(str(tmp_path / f'drawn/{name}.png'))
        picture = cv2.imread(str(trained / f'pictures/{name}.png'))
        assert np.array_equal(drawn[:, :28], picture)
        assert drawn[:, 28:].std() > 1


def test_a_picture_is_drawn_with_its_gate(trained, tmp_path):
    run(
        'image_demo', trained / 'pictures/a.png', trained / 'painter.py',
        trained / 'whole/iter_4.pth', '--out-dir', tmp_path, '--show-gate', *FADE,
    )  # fmt: skip
    shapes = {path.name: cv2.imread(str(path)).shape for path in tmp_path.iterdir()}
    assert shapes.pop('a.upsamplers.png')[1] == 400  # a sheet
    assert shapes == {
        'a.png': (20, 56, 3),
        'a.upsampler.entropy.png': (20, 28, 3),
        'a.upsampler.gate.png': (20, 28, 3),
    }


def test_is_counted(trained, capsys):
    run('get_flops', trained / 'painter.py', *FADE)
    printed = capsys.readouterr().out
    convolutions = 9 * 3 * 8 + 8 + 9 * 8 * 8 + 8 + 3 * 8 + 3
    fade = 129 * 8 + 14490  # of 8 channels
    assert 'input       32 x 48' in printed
    assert f'({convolutions + fade:,})' in printed


def test_is_exported(trained, tmp_path, capsys):
    run(
        'export_onnx', trained / 'painter.py', trained / 'whole/iter_4.pth',
        tmp_path / 'painter.onnx', '--shape', '64', '64', *FADE,
    )  # fmt: skip
    assert f'written: {tmp_path / "painter.onnx"}' in capsys.readouterr().out
