"""What a user sees of errors and of the log."""

import os
import re

import pytest
import torch
from mmengine.registry import HOOKS, METRICS, PARAM_SCHEDULERS, TRANSFORMS

from fade_mm import run as running
from fade_mm.errors import SetupError, counted, explained, is_bug, naming_build_errors
from fade_mm.run.mmengine_fixes import watch_channels
from fade_mm.upsamplers import FADE, build_upsampler
from tests.tools import CAMVID, camvid_options, config, run


@pytest.fixture(autouse=True)
def no_variable_stays(monkeypatch):
    monkeypatch.setenv('FADE_MM_DEBUG', '0')


def fail():
    raise SetupError('the data set is not there')


def test_errors_are_one_line_unless_asked_otherwise(monkeypatch):
    with pytest.raises(SystemExit, match=r'^error: the data set is not there$'):
        running.run_tool(fail)
    parser = running.ToolParser('Does nothing.')
    parser.parse_args(['--traceback'])
    with pytest.raises(SetupError):
        running.run_tool(fail)
    assert os.environ['FADE_MM_DEBUG'] == '1'


def caught(action):
    with pytest.raises(Exception) as info:  # noqa: PT011
        action()
    return info.value


def test_a_fault_of_ours_is_told_from_a_users(monkeypatch):
    assert not is_bug(caught(lambda: FADE(0)))  # what we raise
    assert not is_bug(caught(lambda: int('x')))
    assert not is_bug(caught(lambda: build_upsampler(dict(type='fade', kernel=5), 8, 8)))
    monkeypatch.setattr('fade_mm.upsamplers.build.as_skip', None)
    broken = caught(lambda: build_upsampler(dict(type='fade'), 8, 8))
    assert is_bug(broken)
    with pytest.raises(TypeError, match='NoneType'), naming_build_errors():
        build_upsampler(dict(type='fade'), 8, 8)
    with pytest.raises(SetupError, match='the model cannot be built: '), naming_build_errors():
        FADE(0)


def test_parameters_without_gradient_say_what_to_set():
    torchs = RuntimeError('Expected to have finished ... passing `find_unused_parameters=True`')
    assert '--cfg-options find_unused_parameters=True' in explained(torchs)
    assert explained(RuntimeError('out of memory')) is None


def test_a_wrong_number_of_channels_says_where_to_look():
    torchs = caught(lambda: torch.nn.Conv2d(4, 8, 3)(torch.rand(1, 3, 9, 9)))
    explanation = explained(torchs)
    assert 'to have 4 channels, but got 3 channels' in explanation
    assert 'in_channels' in explanation
    assert 'bgr_to_rgb' in explanation
    assert '\n' not in explanation


@pytest.mark.parametrize(
    ('registry', 'wrong', 'message'),
    [
        (PARAM_SCHEDULERS, dict(type='PolyLR', begin=2, end=2), 'PolyLR: end should be larger'),
        (HOOKS, dict(type='EMAHook', begin_iter=-1), 'EMAHook: .*begin_iter.*-1'),
        (TRANSFORMS, dict(type='Pad', size=(9, 9), padding_mode='blur'), 'Pad: .*padding_mode in'),
        (METRICS, dict(type='mmdet.CocoMetric', metric='box'), "CocoMetric: .*'bbox', .*box"),
    ],
)
def test_an_argument_that_a_class_refuses_is_one_line(registry, wrong, message):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], 0.1)
    more = dict(optimizer=optimizer) if registry is PARAM_SCHEDULERS else {}
    explanation = explained(caught(lambda: registry.build(dict(wrong, **more))))
    assert re.match(message, explanation)
    assert '\n' not in explanation


@pytest.mark.parametrize(
    'tool',
    ['train', 'test', 'image_demo', 'get_flops', 'export_onnx', 'results', 'paper_tables',
     'benchmark_onnx', 'benchmark_train', 'demo_training', 'model_converters/fade_official',
     'model_converters/mobilenet_v2'],
)  # fmt: skip
def test_every_tool_that_hides_traces_can_show_them(tool, capsys):
    with pytest.raises(SystemExit):
        run(tool, '--help')
    assert '--traceback' in capsys.readouterr().out


def test_the_log_before_the_first_iteration_fits_on_a_screen(segmentation_root, tmp_path, capfd):
    options = camvid_options(segmentation_root, iterations=1)
    cfg = config(CAMVID, 'fade')
    run('train', cfg, '--work-dir', tmp_path, '--cfg-options', *options)
    shown = re.sub(r'(?s)Iter\(train\).*', '', capfd.readouterr().out)
    assert len(shown.splitlines()) < 50
    kept = next(tmp_path.glob('*/*.log')).read_text()
    for part in ('System environment', 'Config:', 'Hooks will be executed'):
        assert part in kept
        assert part not in shown


@pytest.mark.parametrize('batched', [True, False])
def test_channels_that_would_be_dropped_are_told_of(batched):
    from mmengine.model import ImgDataPreprocessor

    def run_on(channels, **options):
        model = torch.nn.Sequential(ImgDataPreprocessor(**options))
        watch_channels(model)
        pictures = torch.ones(2, channels, 6, 8)
        return model[0](dict(inputs=pictures if batched else list(pictures)))['inputs']

    colours = dict(mean=[1.0] * 3, std=[1.0] * 3)
    with pytest.raises(SetupError, match=r'4 channels.*bgr_to_rgb=False.*in_channels=4') as error:
        run_on(4, **colours, bgr_to_rgb=True)
    assert '\n' not in str(error.value)
    assert run_on(3, **colours, bgr_to_rgb=True).shape == (2, 3, 6, 8)
    assert run_on(4, mean=[1.0], std=[1.0]).shape == (2, 4, 6, 8)


def test_what_is_counted_has_its_number():
    assert counted(1, 'file') == '1 file'
    assert counted(0, 'file') == '0 files'
    assert counted(1, 'class', 'classes') == '1 class'
    assert counted(20, 'class', 'classes') == '20 classes'


def test_options_of_configs_are_read_as_they_are_written(capsys):
    parser = running.ToolParser('Does nothing.')
    parser.add_cfg_options()

    def read(*items):
        return parser.parse_args(['--cfg-options', *items]).cfg_options

    hooks = [dict(type='EMAHook', momentum=1e-4)]
    assert read(f'custom_hooks={hooks}', 'a.b=1e-3', 'c=None') == dict(
        custom_hooks=hooks, **{'a.b': 1e-3, 'c': None}
    )
    assert read('root=my own pictures/x=1') == dict(root='my own pictures/x=1')
    assert read('classes=[cat, dog]', 'scale=(320,240)', 'sizes=1,2') == dict(
        classes=['cat', 'dog'], scale=(320, 240), sizes=[1, 2]
    )
    for item, message in {
        "custom_hooks=[dict(type='EMAHook')]": 'is no dict of Python',
        'custom_hooks=[{type:EMAHook}]': 'is no dict of Python; write it in quotes',
        'find_unused_parameters': 'expected KEY=VALUE, got find_unused_parameters',
        'scale=(320,240': 'Imbalanced brackets',
    }.items():
        with pytest.raises(SystemExit):
            print(read(item))
        assert re.search(message, capsys.readouterr().err)
