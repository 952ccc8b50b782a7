"""Pure Python configs, whose types are classes, go through the tools."""

import pickle

import numpy as np
import onnxruntime
import pytest
import torch
from mmengine import registry
from mmengine.config import DictAction
from mmengine.registry import Registry

from fade_mm.hosts import host_of
from fade_mm.hosts.base import find
from fade_mm.run import build_model, load_config
from tests.tools import BCCD, CAMVID, bccd_options, camvid_options, config, run

REGISTRIES = [value for value in vars(registry).values() if isinstance(value, Registry)]


def found(kind, scope):
    """The class that a name stands for in any registry; ``None`` where a layer alone knows it."""
    return next((cls for x in REGISTRIES if (cls := find(x, kind, scope)) is not None), None)


def written(node, scope, imports):
    """A part of a config as Python, with classes in the place of their names."""
    if isinstance(node, dict):
        items = []
        for key, value in node.items():
            cls = found(value, scope) if key == 'type' and isinstance(value, str) else None
            if isinstance(cls, type) and value != 'fade':
                alias = f'{cls.__module__}.{cls.__name__}'.replace('.', '_')
                imports.add(f'from {cls.__module__} import {cls.__name__} as {alias}')
                items.append(f'type={alias}')
            else:
                items.append(f'{key}={written(value, scope, imports)}')
        return f'dict({", ".join(items)})'
    if isinstance(node, list | tuple):
        inside = ''.join(f'{written(x, scope, imports)}, ' for x in node)
        return f'({inside})' if isinstance(node, tuple) else f'[{inside}]'
    return repr(node)


def write_pure(path, name, options, scope):
    """Write a config with FADE, on generated pictures, as a file of Python."""
    options = dict(x.split('=', 1) for x in options)
    cfg = load_config(str(config(name, 'fade')))
    cfg.merge_from_dict({key: DictAction._parse_iterable(x) for key, x in options.items()})
    imports = set()
    parts = [
        f'{key} = {written(value, scope, imports)}'
        for key, value in cfg.to_dict().items()
        if key not in ('default_scope', 'work_dir', 'launcher', 'tta_model', 'tta_pipeline')
    ]
    path.write_text('\n'.join([*sorted(imports), *parts]))
    return path


@pytest.fixture
def pure(detection_root, tmp_path):
    return write_pure(tmp_path / 'pure.py', BCCD, bccd_options(detection_root), 'mmdet')


@pytest.fixture
def pure_segmentation(segmentation_root, tmp_path):
    options = camvid_options(segmentation_root, iterations=2)
    return write_pure(tmp_path / 'pure.py', CAMVID, options, 'mmseg')


def test_it_has_its_host(pure):
    cfg = load_config(str(pure))
    assert cfg.get('default_scope') is None
    assert type(host_of(cfg)).__name__ == 'MMDetHost'


def test_trains_is_tested_kept_augmented_drawn_and_counted(pure, tmp_path, capsys):
    run('train', pure, '--work-dir', tmp_path / 'w')
    weights = tmp_path / 'w/epoch_1.pth'
    run(
        'test', pure, weights, '--work-dir', tmp_path / 't', '--out', tmp_path / 'out.pkl',
        '--show-dir', tmp_path / 'show', '--tta',
    )  # fmt: skip
    assert len(pickle.loads((tmp_path / 'out.pkl').read_bytes())) == 2
    assert len(list((tmp_path / 'show').glob('*.png'))) == 2
    picture = next((tmp_path / 'bccd/images').glob('val*.jpg'))
    run('image_demo', picture, pure, weights, '--out-dir', tmp_path / 'demo', '--show-gate')
    assert len(list((tmp_path / 'demo').iterdir())) == 2 + 3
    capsys.readouterr()
    run('get_flops', pure, '--shape', 64, 96)
    parameters = sum(p.numel() for p in build_model(load_config(str(pure))).parameters())
    assert f'({parameters:,})' in capsys.readouterr().out


def test_its_weights_are_checked(pure, tmp_path):
    torch.save(dict(state_dict={}), tmp_path / 'x.pth')
    with pytest.raises(SystemExit, match='does not fit the model'):
        run('test', pure, tmp_path / 'x.pth', '--work-dir', tmp_path / 't')


def test_segmentation_trains_is_kept_drawn_and_exported(pure_segmentation, tmp_path):
    work = tmp_path / 'w'
    run('train', pure_segmentation, '--work-dir', work)
    weights = work / 'iter_2.pth'
    out = ('--out', tmp_path / 'out', '--show-dir', tmp_path / 'show')
    run('test', pure_segmentation, weights, '--work-dir', work, *out)
    assert len(list((tmp_path / 'out').glob('*.png'))) == 3
    assert len(list((tmp_path / 'show').iterdir())) == 3
    run('export_onnx', pure_segmentation, weights, tmp_path / 'm.onnx', '--shape', 64, 64)
    session = onnxruntime.InferenceSession(tmp_path / 'm.onnx')
    image = np.zeros((1, 3, 64, 64), np.float32)
    assert session.run(['logits'], {'image': image})[0].shape[2:] == (64, 64)
