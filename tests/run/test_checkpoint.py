"""Checkpoints load as data, and nothing that they contain runs."""

import io
import os
import pickle
import urllib.error
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader, load_checkpoint
from torch import nn

from fade_mm.run import SetupError, use_safe_checkpoints
from fade_mm.run.checkpoint.unpickling import _DType
from tests.tools import CAMVID, camvid_options, config, run

use_safe_checkpoints()


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


class System:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f'touch {self.path}',)


class Getattr:
    """Fetches an attribute that is no statistic of a log buffer."""

    def __init__(self, *args):
        self.args = args

    def __reduce__(self):
        return getattr, self.args


def weights():
    return dict(state_dict=nn.Linear(2, 2).state_dict(), meta=dict(epoch=1))


def test_a_checkpoint_as_mmengine_writes_it_loads(tmp_path):
    buffer = HistoryBuffer([1.0, 3.0], [1, 1])
    content = weights() | dict(
        message_hub=dict(log_scalars={'loss': buffer}),
        random=dict(numpy=np.random.get_state()),
        scalar=np.float64(2.5),
    )
    torch.save(content, tmp_path / 'a.pth')
    loaded = CheckpointLoader.load_checkpoint(str(tmp_path / 'a.pth'), 'cpu')
    assert loaded['message_hub']['log_scalars']['loss'].mean() == 2
    assert loaded['message_hub']['log_scalars']['loss'].statistics('max') == 3
    assert loaded['scalar'] == 2.5
    assert (loaded['random']['numpy'][1] == content['random']['numpy'][1]).all()


@pytest.mark.parametrize('zipped', [True, False], ids=['zip', 'legacy'])
@pytest.mark.parametrize(
    ('cls', 'name'), [(Touch, r'pathlib\.(_local\.)?Path|getattr'), (System, r'posix\.system')]
)
def test_a_file_that_names_code_is_refused_by_name(cls, name, zipped, tmp_path):
    victim, path = tmp_path / 'ran', tmp_path / 'bad.pth'
    content = weights() | dict(extra=cls(victim))
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(SetupError, match=name):
        CheckpointLoader.load_checkpoint(str(path), 'cpu')
    assert not victim.exists()
    with pytest.raises(SetupError, match=name):
        load_checkpoint(nn.Linear(2, 2), str(path))
    assert not victim.exists()
    torch.load(path, weights_only=False)  # the file does what it was made for
    assert victim.exists()


def test_a_plain_pickle_is_refused(tmp_path):
    victim, path = tmp_path / 'ran', tmp_path / 'bad.pth'
    path.write_bytes(pickle.dumps(System(victim)))
    with pytest.raises(SetupError):
        CheckpointLoader.load_checkpoint(str(path), 'cpu')
    assert not victim.exists()


@pytest.mark.parametrize(
    'args', [(HistoryBuffer, '__init__'), (HistoryBuffer, '_set_default_statistics'), (dict, 'pop')]
)
def test_getattr_fetches_statistics_only(args, tmp_path):
    torch.save(weights() | dict(extra=Getattr(*args)), tmp_path / 'bad.pth')
    with pytest.raises(SetupError, match=r'getattr|builtins\.dict'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'bad.pth'), 'cpu')


@pytest.mark.parametrize('variable', ['TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', None])
def test_urls_are_read_as_data_too(tmp_path, monkeypatch, variable):
    """mmengine asks torch to execute what a URL serves; the environment may ask for it too."""
    if variable:
        monkeypatch.setenv(variable, '1')
    victim = tmp_path / 'ran'
    for name, extra in (('good', 1), ('bad', System(victim))):
        torch.save(weights() | dict(extra=extra), tmp_path / f'{name}-00000000.pth')
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    (tmp_path / 'checkpoints').symlink_to(tmp_path)
    loaded = CheckpointLoader.load_checkpoint('https://example.org/good-00000000.pth', 'cpu')
    assert loaded['extra'] == 1
    with pytest.raises(SetupError, match=r'posix\.system'):
        CheckpointLoader.load_checkpoint('https://example.org/bad-00000000.pth', 'cpu')
    assert not victim.exists()
    assert os.environ.get('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD') == (variable and '1')
    assert 'TORCH_FORCE_WEIGHTS_ONLY_LOAD' not in os.environ


def test_every_scheme_of_mmengine_is_guarded():
    assert CheckpointLoader._schemes
    assert all(load.is_guarded for load in CheckpointLoader._schemes.values())
    before = dict(CheckpointLoader._schemes)
    use_safe_checkpoints()
    assert before == dict(CheckpointLoader._schemes)


def test_a_config_inside_of_a_checkpoint_is_dropped(tmp_path):
    """`Runner.resume` would run it as Python."""
    torch.save(weights() | dict(meta=dict(config='raise SystemExit')), tmp_path / 'a.pth')
    assert 'config' not in CheckpointLoader.load_checkpoint(str(tmp_path / 'a.pth'), 'cpu')['meta']


def test_a_failed_download_says_what_else_to_do(monkeypatch):
    def fail(*args, **kwargs):
        raise urllib.error.URLError('no network')

    monkeypatch.setattr('torch.hub.download_url_to_file', fail)
    with pytest.raises(SetupError, match=r'no network.*init_cfg\.checkpoint=FILE.*init_cfg=None'):
        CheckpointLoader.load_checkpoint('https://example.org/nothing-here.pth', 'cpu')


def test_torch_itself_is_left_alone():
    buffer = io.BytesIO()
    torch.save(dict(fn=HistoryBuffer([1.0], [1])), buffer)
    buffer.seek(0)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(buffer)


class Void:
    """A structured scalar that answers ``'config' in meta`` and ``meta['config']``."""

    def __init__(self, source):
        self.scalar = np.array([(source, 3)], dtype=[('config', 'U200'), ('iter', 'i8')])[0]

    def __reduce__(self):
        return self.scalar.__reduce__()


class Shadowed(dict):
    """A dict whose ``get`` the file replaces."""

    def __reduce__(self):
        return OrderedDict, (), dict(get=set), None, iter(self.items())


def programs(source):
    yield dict(meta=Void(source))
    yield dict(
        meta=dict(config=source, cfg=source), message_hub=dict(runtime_info=dict(cfg=source))
    )
    yield Shadowed(meta=dict(config=source, iter=1, epoch=1), state_dict={})
    yield Shadowed(meta=Shadowed(config=source, iter=1, epoch=1), state_dict={})


@pytest.mark.parametrize('index', range(4))
def test_no_program_in_a_checkpoint_survives(index, tmp_path):
    """mmengine would execute a config that it finds under these keys."""
    source = f'open({str(tmp_path / "ran")!r}, "w")'
    torch.save(list(programs(source))[index], tmp_path / 'a.pth')
    try:
        loaded = CheckpointLoader.load_checkpoint(str(tmp_path / 'a.pth'), 'cpu')
    except SetupError:
        return
    assert type(loaded) is dict
    assert type(loaded['meta']) is dict
    assert not {'config', 'cfg'} & set(loaded['meta'])
    assert not loaded.get('message_hub', {}).get('runtime_info')


@pytest.mark.parametrize('index', range(4))
def test_resuming_from_a_program_runs_nothing(index, tmp_path, segmentation_root):
    victim = tmp_path / 'ran'
    content = list(programs(f'open({str(victim)!r}, "w")'))[index]
    torch.save(content, tmp_path / 'a.pth')
    options = camvid_options(segmentation_root, resume=True, load_from=tmp_path / 'a.pth')
    with pytest.raises(SystemExit, match=r'^error: '):
        run(
            'train', config(CAMVID, 'bilinear'), '--work-dir', tmp_path / 'w',
            '--cfg-options', *options,
        )  # fmt: skip
    assert not victim.exists()


@pytest.mark.slow
def test_resuming_from_a_real_checkpoint_with_a_program_runs_nothing(tmp_path, segmentation_root):
    """All that mmengine checks first is in order, so it gets as far as the config."""
    cfg, victim = config(CAMVID, 'bilinear'), tmp_path / 'ran'
    options = list(camvid_options(segmentation_root))
    run('train', cfg, '--work-dir', tmp_path / 'w', '--cfg-options', *options)
    content = torch.load(tmp_path / 'w/iter_2.pth', weights_only=False)
    content['meta']['config'] = f'open({str(victim)!r}, "w")'
    torch.save(content, tmp_path / 'a.pth')
    arguments = ['--work-dir', tmp_path / 'w2', '--resume', tmp_path / 'a.pth']
    run('train', cfg, *arguments, '--cfg-options', *options)
    assert (tmp_path / 'w2/iter_4.pth').exists()
    assert not victim.exists()


@pytest.mark.parametrize('code', ['O', 'V8', 'i8,O', 'U4', 3])
def test_arrays_hold_numbers_only(code):
    with pytest.raises(pickle.UnpicklingError, match=r'numpy\.dtype'):
        _DType(code)


@pytest.mark.parametrize('dtype', ['f8', '>f4', 'i8', 'u1', '?', 'f2'])
def test_arrays_and_scalars_come_back_and_are_saved_again(dtype, tmp_path):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    for _ in range(2):
        torch.save(weights() | dict(array=array, scalar=array[1, 2]), tmp_path / 'a.pth')
        loaded = CheckpointLoader.load_checkpoint(str(tmp_path / 'a.pth'), 'cpu')
        assert loaded['array'].dtype == np.dtype(dtype).newbyteorder('=')
        assert np.array_equal(loaded['array'], array)
        assert loaded['scalar'] == array[1, 2]
        array = loaded['array']
    unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(tmp_path / 'a.pth')
    assert all(name.startswith('numpy.') for name in unsafe)


@pytest.mark.parametrize(
    'content',
    [b'', b'garbage', b'PK\x03\x04 cut off', pickle.dumps([1])],
    ids=['empty', 'garbage', 'cut-off', 'list'],
)
def test_a_file_that_is_no_checkpoint_is_named(content, tmp_path):
    (tmp_path / 'bad.pth').write_bytes(content)
    with pytest.raises(SetupError, match=r'bad\.pth'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'bad.pth'), 'cpu')


def test_a_checkpoint_that_is_a_list_is_refused(tmp_path):
    torch.save([torch.zeros(1)], tmp_path / 'bad.pth')
    with pytest.raises(SetupError, match='must be a dict, got list'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'bad.pth'), 'cpu')


@pytest.mark.parametrize(
    ('text', 'reason'),
    [('rubbish\n', '.+'), ('# Title\n', 'Unsupported operand 35'), ('', 'EOFError')],
)
def test_a_text_file_is_named_as_no_checkpoint(text, reason, tmp_path):
    file = tmp_path / 'text.pth'
    file.write_text(text)
    message = rf'text\.pth cannot be loaded: it is no checkpoint that torch can read \({reason}\)$'
    with pytest.raises(SetupError, match=message):
        load_checkpoint(nn.Linear(2, 2), str(file))
