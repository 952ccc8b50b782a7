"""The file of runs: its schema, and appending to it."""

import datetime
from pathlib import Path

import pytest
import yaml

from fade_mm.run import SetupError
from fade_mm.run.results import FIELDS, append_run, dump, read_runs, write

ROOT = Path(__file__).parents[2]
ENTRY = dict(
    task='segmentation',
    data='CamVid',
    host='SegFormer MiT-B0',
    upsampler='FADE',
    seed=3,
    config='configs/segformer/segformer_mit-b0_fade_1xb4-1500_camvid-256x256.py',
    options={},
    budget='1500 iterations',
    scores={'mIoU': 48.25, 'mBIoU': 36.5},
    curve={500: {'mIoU': 30.0}},
    machine='a machine',
    threads=1,
    date=datetime.date(2026, 11, 25),
    fade_mm='0123456789ab+dirty',
    torch='2.13.0+cpu',
    checkpoint_sha256='0a' * 32,
    note='größer',
)


@pytest.fixture
def data(tmp_path):
    """A file of one run, written by hand."""
    path = tmp_path / 'results.yml'
    path.write_text('# by hand\nruns:   # one\n' + dump([ENTRY]), encoding='utf-8')
    return path


def left(folder, **changes):
    """What a run has left."""
    path = folder / 'result.yml'
    path.write_text(dump({**ENTRY, **changes}), encoding='utf-8')
    return path


def test_our_runs_are_valid_and_their_configs_are_here():
    runs = read_runs(ROOT / 'docs/results.yml')
    assert len(runs) >= 32
    for run in runs:
        assert '::' in run['config'] or (ROOT / run['config']).is_file()


def test_an_appended_run_is_read_back_and_all_else_stays_to_the_byte(data, tmp_path):
    before = data.read_bytes()
    append_run(data, left(tmp_path, seed=4))
    assert data.read_bytes().startswith(before)
    assert read_runs(data) == [ENTRY, {**ENTRY, 'seed': 4}]
    assert 'größer' in data.read_text(encoding='utf-8')


def test_fields_stand_in_their_order(data):
    assert list(read_runs(data)[0]) == list(FIELDS)


@pytest.mark.parametrize('other', ['config', 'options', 'seed', 'checkpoint_sha256'])
def test_a_run_is_appended_once(other, data, tmp_path):
    before = data.read_bytes()
    with pytest.raises(SetupError, match='has this run already'):
        append_run(data, left(tmp_path, scores={'mIoU': 1.0}, machine='another'))
    assert data.read_bytes() == before
    values = dict(config='other.py', options={'a': 1}, seed=4, checkpoint_sha256='0b' * 32)
    append_run(data, left(tmp_path, **{other: values[other]}))
    assert len(read_runs(data)) == 2


@pytest.mark.parametrize(
    ('field', 'value', 'message'),
    [
        ('task', 'segmenting', 'task must be one of segmentation, detection, .* got .segmenting'),
        ('data', None, 'data is not known; write it there'),
        ('host', None, 'host is not known; write it there'),
        ('upsampler', None, 'upsampler is not known'),
        ('seed', 0.5, 'seed must be an integer, got 0.5'),
        ('seed', True, 'seed must be an integer'),
        ('config', '/home/me/a.py', "config must be a config's path in this repository"),
        ('config', '~/a.py', "config must be a config's path in this repository"),
        ('options', [], 'options must be values'),
        ('budget', 'long', "budget must be as in '1500 iterations' or '12 epochs', got 'long'"),
        ('scores', {}, 'scores must be numbers by name, at least one'),
        ('scores', {'mIoU': '45'}, 'scores must be numbers'),
        ('scores', {'mIoU': float('nan')}, 'scores must be numbers'),
        ('curve', {'500': {'mIoU': 1.0}}, 'curve must be earlier scores'),
        ('curve', {500: 1.0}, 'curve must be earlier scores'),
        ('threads', '2', 'threads must be an integer'),
        ('date', 'yesterday', 'date must be a date, as in 2026-11-25'),
        ('fade_mm', 'main', 'fade_mm must be a commit'),
        ('torch', 'new', 'torch must be a version'),
        ('checkpoint_sha256', '0a', 'checkpoint_sha256 must be 64 hexadecimal digits'),
        ('colour', 'red', 'colour is no field of a run; the fields are task, data'),
    ],
)
def test_a_wrong_run_is_refused_with_one_line(field, value, message, data, tmp_path):
    before = data.read_bytes()
    with pytest.raises(SetupError, match=message) as error:
        append_run(data, left(tmp_path, **{field: value}))
    assert str(error.value).startswith(f'{tmp_path / "result.yml"}: ')
    assert '\n' not in str(error.value)
    assert data.read_bytes() == before


@pytest.mark.parametrize('field', [name for name, field in FIELDS.items() if not field.is_needed])
def test_what_is_not_known_is_null(field, data, tmp_path):
    append_run(data, left(tmp_path, **{'seed': 4, field: None}))
    assert read_runs(data)[1][field] is None


def test_every_field_is_there(data, tmp_path):
    path = left(tmp_path)
    path.write_text(path.read_text().replace('threads: 1\n', ''))
    with pytest.raises(SetupError, match='threads is missing; the fields are task, '):
        append_run(data, path)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('runs: [', 'is no YAML'),
        ('runs: 3', 'must have a list under runs'),
        ('', 'must have a list under runs'),
        ('runs: [3]', 'run 1 must be a mapping of task, data'),
        ('runs:\n' + 2 * dump([ENTRY]), 'run 2 is the same as run 1'),
    ],
)
def test_a_wrong_file_is_named_with_one_line(text, message, data):
    data.write_text(text, encoding='utf-8')
    with pytest.raises(SetupError, match=f'^{data}.*{message}') as error:
        read_runs(data)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('text', ['{runs: []}', 'runs: []\n', 'runs:\n{}\nafter: 1\n'])
def test_what_cannot_be_appended_to_stays_as_it_is(text, data, tmp_path):
    data.write_text(text.format(dump([ENTRY])) if '{}' in text else text, encoding='utf-8')
    before = data.read_bytes()
    with pytest.raises(SetupError, match=f'^{data}'):
        append_run(data, left(tmp_path, seed=4))
    assert data.read_bytes() == before


def test_a_missing_file_is_named(data, tmp_path):
    with pytest.raises(SetupError, match=r'nowhere\.yml cannot be read: No such file'):
        append_run(data, tmp_path / 'nowhere.yml')


def test_a_file_that_cannot_be_written_whole_is_not_touched(data, monkeypatch):
    before = data.read_bytes()

    def full(self, text, encoding=None):
        raise OSError('no space left')

    monkeypatch.setattr(Path, 'write_text', full)
    with pytest.raises(OSError, match='no space'):
        write(data, 'new')
    monkeypatch.undo()
    assert data.read_bytes() == before
    write(data, 'new')
    assert data.read_text() == 'new'
    assert [path.name for path in data.parent.iterdir()] == [data.name]


def test_small_mappings_stand_in_one_line():
    text = dump([ENTRY])
    assert '  scores: {mIoU: 48.25, mBIoU: 36.5}\n' in text
    assert '    500: {mIoU: 30.0}\n' in text
    assert yaml.safe_load(text) == [ENTRY]
