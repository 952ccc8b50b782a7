"""docs/questions.md: its commands have a tool and a config that does what they say."""

import argparse
import re
import shlex

import numpy as np
import pytest
import torch
from mmengine.config import DictAction

from fade_mm.run import build_model, load_config
from fade_mm.upsamplers import PRESETS, UPSAMPLERS, AsUpsampler, named_upsamplers
from tests.tools import ROOT

PAGE = (ROOT / 'docs/questions.md').read_text()
COMMANDS = [
    line.removeprefix('    PYTHON ')
    for line in PAGE.replace('\\\n', '').splitlines()
    if line.startswith('    PYTHON ')
]
BLOCKS = re.findall(r'```python\n(.*?)```', PAGE, re.S)


def parsed(command):
    """A command's tool, its configs, and the options that it gives them."""
    parser = argparse.ArgumentParser()
    parser.add_argument('tool')
    parser.add_argument('rest', nargs='*')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    known, _ = parser.parse_known_args(shlex.split(command))
    return known.tool, [x for x in known.rest if x.endswith('.py')], known.cfg_options or {}


@pytest.mark.parametrize('command', COMMANDS)
def test_a_command_builds_the_model_that_it_says(command):
    tool, configs, options = parsed(command)
    assert (ROOT / tool).is_file()
    for config in configs:
        cfg = load_config(config if '::' in config else str(ROOT / config), dict(options))
        model = build_model(cfg)
        ups = [up for _, up in named_upsamplers(model)]
        ups = [up.layer if isinstance(up, AsUpsampler) else up for up in ups]
        asked = options.get('model.neck.upsample_cfg.type')
        asked = asked or next((x for x in ('fade', 'carafe') if f'_{x}_' in config), None)
        kind = UPSAMPLERS[PRESETS.get(asked, dict(type=asked))['type']] if asked else None
        assert {type(up) for up in ups} == ({kind} if kind else set())
        if 'model.neck.upsample_cfg.gating' in options:
            assert all(up.gate_generator is None for up in ups)


THREADS = ('pytorch#158194', 'mmcv#2872', 'mmdetection#10651', 'ultralytics#24497', 'yolov8#43')


@pytest.mark.parametrize('thread', [*THREADS, 'PaddleDetection PR#833', 'boundary-iou-api#4'])
def test_threads_that_were_open_are_answered(thread):
    assert thread in PAGE


@pytest.mark.parametrize('block', [x for x in BLOCKS if 'onnx' not in x])
def test_a_snippet_runs(block):
    exec(compile(block, 'questions.md', 'exec'), {})


@pytest.mark.slow
def test_the_exported_detector_takes_all_sizes(tmp_path, monkeypatch):
    onnxruntime = pytest.importorskip('onnxruntime')
    (block,) = [x for x in BLOCKS if 'onnx' in x]
    monkeypatch.chdir(ROOT)
    path = str(tmp_path / 'detector.onnx')
    names = {}
    exec(compile(block.replace('detector.onnx', path), 'questions.md', 'exec'), names)
    session = onnxruntime.InferenceSession(path)
    for size in [(2, 3, 96, 160), (1, 3, 64, 96), (3, 3, 90, 75)]:
        image = torch.rand(size)
        with torch.no_grad():
            expected = names['Raw']()(image)
        found = session.run(None, {session.get_inputs()[0].name: image.numpy()})
        assert len(found) == len(expected) == 6
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b.numpy(), atol=1e-3, rtol=1e-3)
