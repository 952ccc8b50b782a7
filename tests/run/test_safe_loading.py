"""The guard of checkpoints holds for each call, whatever the rest of the process does."""

import http.server
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import mmengine.fileio
import pytest
import torch
from mmengine.infer import BaseInferencer
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.lr_scheduler import OneCycleLR
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as mmengine_checkpoint

from fade_mm.run import SetupError, use_safe_checkpoints
from tests.run.test_checkpoint import System, weights

use_safe_checkpoints()
GOOD = 'good-00000000.pth'
BAD = 'bad-00000000.pth'


@pytest.fixture
def files(tmp_path):
    """A good checkpoint as mmengine writes it, and one that makes ``ran`` when it is executed."""
    buffer = HistoryBuffer([1.0, 3.0], [1, 1])
    torch.save(weights() | dict(message_hub=dict(log_scalars=dict(loss=buffer))), tmp_path / GOOD)
    torch.save(weights() | dict(extra=System(tmp_path / 'ran')), tmp_path / BAD)
    return tmp_path


@pytest.fixture
def server(files, monkeypatch, tmp_path_factory):
    """Serves the files, the slow one half a second after it was asked for."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.strip('/')
            content = (files / name.removeprefix('slow-')).read_bytes()
            time.sleep(0.5 * name.startswith('slow-'))
            self.send_response(200)
            self.send_header('Content-Length', str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    cache = tmp_path_factory.mktemp('hub')
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(cache))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{served.server_port}'
        served.shutdown()


def load(name):
    return CheckpointLoader.load_checkpoint(str(name), 'cpu')


def test_a_load_that_ends_takes_no_guard_from_another(server, files):
    """The bad file is still being fetched when the good one is done."""
    with ThreadPoolExecutor(2) as pool:
        good, bad = pool.submit(load, f'{server}/{GOOD}'), pool.submit(load, f'{server}/slow-{BAD}')
        assert 'state_dict' in good.result()
        with pytest.raises(SetupError, match=r'refused.*posix\.system'):
            bad.result()
    assert not (files / 'ran').exists()


def test_200_loads_in_8_threads(files):
    def refused():
        with pytest.raises(SetupError, match=r'posix\.system'):
            load(files / BAD)

    with ThreadPoolExecutor(8) as pool:
        good = [pool.submit(load, files / GOOD) for _ in range(200)]
        bad = [pool.submit(refused) for _ in range(50)]
        for each in good:
            assert each.result()['message_hub']['log_scalars']['loss'].mean() == 2
        for each in bad:
            each.result()
    assert not (files / 'ran').exists()


SCHEMES = ['http://', 'torchvision://', 'modelzoo://', 'open-mmlab://', 'openmmlab://', 'mmcls://']
STORES = ['', 's3://', 'petrel://', 'cluster:s3://', 'pavi://', 'open-mmlab://home/']


@pytest.fixture
def everywhere(server, files, monkeypatch):
    """The files under every scheme of mmengine's, by name of a model or of an object."""
    urls = {'good': f'{server}/{GOOD}', 'bad': f'{server}/{BAD}'}
    at_home = {f'home/{name}': f'{name}-00000000.pth' for name in urls}
    for models in ('get_torchvision_models', 'get_mmcls_models', 'get_external_models'):
        monkeypatch.setattr(mmengine_checkpoint, models, lambda: urls | at_home)
    monkeypatch.setattr(mmengine_checkpoint, 'get_deprecated_model_names', dict)
    monkeypatch.setattr(mmengine_checkpoint, '_get_mmengine_home', lambda: str(files))

    class Store:
        def get(self, name):
            return (files / name.rpartition('/')[2]).read_bytes()

    monkeypatch.setattr('fade_mm.run.checkpoint.schemes.get_file_backend', lambda *_, **__: Store())

    class Cloud:
        def __init__(self, name):
            self.name = name

        def download(self, path):
            mmengine.fileio.put((files / self.name).read_bytes(), path)

    pavi = mock.Mock(modelcloud=mock.Mock(get=Cloud))
    monkeypatch.setitem(sys.modules, 'pavi', pavi)

    def name(scheme, kind):
        if scheme == 'http://':
            return urls[kind]
        if scheme in (*SCHEMES, 'open-mmlab://home/'):
            return f'{scheme}{kind}'
        return f'{scheme or f"{files}/"}{kind}-00000000.pth'

    return name


@pytest.mark.parametrize('environment', ['TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', None])
@pytest.mark.parametrize('scheme', SCHEMES + STORES)
def test_every_scheme_reads_data_alone(scheme, environment, everywhere, files, monkeypatch):
    if environment:
        monkeypatch.setenv(environment, '1')
    assert 'state_dict' in load(everywhere(scheme, 'good'))
    with pytest.raises(SetupError, match=r'posix\.system|evil'):
        load(everywhere(scheme, 'bad'))
    assert not (files / 'ran').exists()


def test_no_scheme_is_left_out():
    tested = {*SCHEMES, *STORES, 'https://'}  # which has the loader of http://
    assert {pattern.removeprefix(r'(\S+\:)?') for pattern in CheckpointLoader._schemes} <= tested


class Executed:
    """Calls a function of this module, which a process might have told torch to admit."""

    def __reduce__(self):
        return evil, ()


def evil():
    raise AssertionError('executed')


def test_what_others_admit_is_not_admitted_here(files):
    torch.save(weights() | dict(extra=Executed()), files / BAD)
    with torch.serialization.safe_globals([evil]):
        with pytest.raises(SetupError, match=r'test_safe_loading\.evil'):
            load(files / BAD)
        with pytest.raises(AssertionError, match='executed'):  # torch's own call does
            torch.load(files / BAD)
    with torch.serialization.safe_globals([HistoryBuffer]):
        pass  # takes it from torch's list when it ends
    torch.serialization.clear_safe_globals()
    assert load(files / GOOD)['message_hub']['log_scalars']['loss'].mean() == 2


def test_torch_admits_no_more_than_before(files):
    load(files / GOOD)
    with pytest.raises(pickle.UnpicklingError, match='HistoryBuffer'):
        torch.load(files / GOOD)


IMPORTS = """
import pkgutil, importlib, torch
from mmengine.infer import BaseInferencer
from mmengine.runner import CheckpointLoader
from torch import _weights_only_unpickler as unpickler
import mmdet.apis, mmseg.apis

def state():
    return (dict(CheckpointLoader._schemes), torch.load, torch.hub.load_state_dict_from_url,
            unpickler._get_user_allowed_globals, torch.serialization.get_safe_globals(),
            BaseInferencer._init_model)

before = state()
import fade_mm
for module in pkgutil.walk_packages(fade_mm.__path__, 'fade_mm.'):
    importlib.import_module(module.name)
assert state() == before
fade_mm.run.use_safe_checkpoints()
once = state()
assert once != before
fade_mm.run.use_safe_checkpoints()
assert state() == once
"""


def test_imports_change_no_loader():
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', IMPORTS], capture_output=True)
    assert not done.returncode, done.stderr.decode()


def test_a_model_from_its_weights_alone_is_refused_in_one_line(files, tmp_path):
    source = f'open({str(tmp_path / "ran")!r}, "w")'
    content = weights() | dict(message_hub=dict(runtime_info=dict(cfg=source)))
    torch.save(content, tmp_path / 'a.pth')

    class Inferencer(BaseInferencer):
        def _init_visualizer(self, cfg):
            pass

        visualize = postprocess = None

    Inferencer.__abstractmethods__ = frozenset()
    with pytest.raises(SetupError, match=r"is code, and is not run.*Inferencer\('CONFIG\.py', "):
        Inferencer(weights=str(tmp_path / 'a.pth'))
    assert not (tmp_path / 'ran').exists()


@pytest.mark.parametrize('cut', [64, 200, 400, -100])
def test_any_damage_ends_in_one_line(files, cut):
    """Also what the unpickler itself stumbles over."""
    content = bytearray((files / GOOD).read_bytes())
    (files / 'cut.pth').write_bytes(content[:cut])
    with pytest.raises(SetupError, match=r'cut\.pth cannot be loaded: it is no checkpoint'):
        load(files / 'cut.pth')


@pytest.mark.parametrize(
    'pickled',
    [b'\x80\x02}X\x01\x00\x00\x00aK\x01s0.', b'\x80\x02Q.', b'\x80\x02(tR.', b'\x80\x02].'],
)
def test_malformed_pickles_end_in_one_line(files, pickled):
    """Pickles that make torch's unpickler fail with `IndexError`, `AttributeError` and others."""
    writer = torch._C.PyTorchFileWriter(str(files / 'odd.pth'))
    writer.write_record('data.pkl', pickled, len(pickled))
    writer.write_end_of_file()
    with pytest.raises(SetupError, match=r'odd\.pth'):
        load(files / 'odd.pth')


class Reduced:
    """What a file says to call."""

    def __init__(self, function, *arguments):
        self.reduction = function, arguments

    def __reduce__(self):
        return self.reduction


def test_schedules_of_one_cycle_are_read(files):
    """mmengine keeps the function that they anneal by, which it fetches from the class."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = OneCycleLR(optimizer, eta_max=0.1, total_steps=9)
    torch.save(weights() | dict(param_schedulers=[schedule.state_dict()]), files / GOOD)
    [state] = load(files / GOOD)['param_schedulers']
    assert state['anneal_func'](0, 1, 0.5) == pytest.approx(0.5)


@pytest.mark.parametrize(
    'extra',
    [
        Reduced(getattr, OneCycleParamScheduler, 'load_state_dict'),
        Reduced(OneCycleParamScheduler, None),
        Reduced(OneCycleParamScheduler._annealing_cos, 1, 2, 3),
    ],
    ids=['another-function', 'the-class', 'the-function'],
)
def test_nothing_else_of_them_is(files, extra):
    torch.save(weights() | dict(extra=extra), files / BAD)
    with pytest.raises(SetupError, match=r'refused|no checkpoint that torch can read'):
        load(files / BAD)
