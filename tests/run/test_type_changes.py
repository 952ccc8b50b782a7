"""An upsampler's `type`, changed on the command line, takes the old arguments with it."""

import pytest
from mmengine.config import Config

from fade_mm.run import load_config
from fade_mm.upsamplers import FADE
from tests.tools import CAMVID, config

FADE_7 = dict(type='fade', gating=True, up_kernel_size=7)
DECONV = dict(type='deconv', kernel_size=3)
SAPA_G = dict(type='sapa', similarity='gated')
UP = 'model.neck.upsample_cfg'


@pytest.fixture
def load(tmp_path, capsys):
    """A function that gives a model's config with options, and what was said of them."""

    def load(model, options):
        Config(dict(model=dict(model, type='mmdet.RetinaNet'))).dump(tmp_path / 'config.py')
        loaded = load_config(str(tmp_path / 'config.py'), options).model.to_dict()
        assert loaded.pop('type') == 'mmdet.RetinaNet'
        return loaded, capsys.readouterr().err

    return load


def neck(upsampler):
    return dict(neck=dict(type='fade_mm.FPN', upsample_cfg=upsampler))


@pytest.mark.parametrize(
    ('inherited', 'kind', 'dropped'),
    [
        (FADE_7, 'sapa_b', "is sapa_b now, without fade's gating=True, up_kernel_size=7"),
        (dict(FADE_7, type='fade_mm.fade'), 'carafe', "fade's gating=True, up_kernel_size=7"),
        (DECONV, 'fade', "deconv's kernel_size=3"),
        (SAPA_G, 'sapa_b', "sapa's similarity='gated'"),
    ],
)
def test_arguments_of_the_old_type_are_dropped_and_named(load, inherited, kind, dropped):
    model, said = load(neck(inherited), {f'{UP}.type': kind})
    assert model == neck(dict(type=kind))
    assert said.startswith(f'{UP} is {kind} now')
    assert dropped in said
    assert said.count('\n') == 1


@pytest.mark.parametrize(
    'options',
    [
        {f'{UP}.type': 'sapa', f'{UP}.up_kernel_size': 3},
        {f'{UP}.up_kernel_size': 3, f'{UP}.type': 'sapa'},
        {UP: dict(type='sapa', up_kernel_size=3)},
        {'model': neck(dict(type='sapa', up_kernel_size=3))},
    ],
)
def test_arguments_given_with_the_type_are_kept(load, options):
    model, said = load(neck(FADE_7), options)
    assert model == neck(dict(type='sapa', up_kernel_size=3))
    assert said == f"{UP} is sapa now, without fade's gating=True\n"


@pytest.mark.parametrize('kind', ['fade', 'fade_mm.fade'])
def test_the_same_type_keeps_its_arguments(load, kind):
    model, said = load(neck(FADE_7), {f'{UP}.type': kind, f'{UP}.up_kernel_size': 3})
    assert model == neck(dict(type=kind, gating=True, up_kernel_size=3))
    assert not said


def test_an_upsampler_without_arguments_is_replaced_without_a_word(load):
    assert load(neck(dict(type='fade')), {f'{UP}.type': 'sapa'}) == (neck(dict(type='sapa')), '')


def test_it_is_found_in_lists_and_whatever_its_key_is_called(load):
    model = dict(heads=[dict(x=1), dict(finer=FADE_7), [FADE_7]], other=FADE_7)
    options = {'model.heads.1.finer.type': 'carafe', 'model.heads.2.0.type': 'dysample'}
    model, said = load(model, options)
    assert model['heads'] == [dict(x=1), dict(finer=dict(type='carafe')), [dict(type='dysample')]]
    assert model['other'] == FADE_7
    assert [line.split()[0] for line in said.splitlines()] == [
        'model.heads.1.finer',
        'model.heads.2.0',
    ]


def test_what_is_no_upsampler_keeps_what_it_has(load):
    model = neck(FADE_7)
    model['neck']['out_channels'] = 256
    changed, said = load(model, {'model.neck.type': 'fade_mm.SegFPN', 'model.new.type': 'fade'})
    assert changed['neck'] == model['neck'] | dict(type='fade_mm.SegFPN')
    assert changed['new'] == dict(type='fade')
    assert not said


def test_an_inherited_class_counts_as_its_upsampler(tmp_path, capsys):
    (tmp_path / 'config.py').write_text(
        'from fade_mm.upsamplers import FADE\n'
        "neck = dict(type='fade_mm.FPN', upsample_cfg=dict(type=FADE, gating=True))\n"
        "model = dict(type='mmdet.RetinaNet', neck=neck)\n"
    )
    cfg = load_config(str(tmp_path / 'config.py'), {'model.neck.upsample_cfg.gating': False})
    assert cfg.model.neck.upsample_cfg == dict(type=FADE, gating=False)
    cfg = load_config(str(tmp_path / 'config.py'), {'model.neck.upsample_cfg.type': 'carafe'})
    assert cfg.model.neck.upsample_cfg == dict(type='carafe')
    assert "without FADE's gating=True" in capsys.readouterr().err


def test_it_holds_for_what_a_file_inherits(tmp_path, capsys):
    (tmp_path / 'config.py').write_text(
        f"_base_ = '{config(CAMVID, 'fade')}'\n"
        'model = dict(decode_head=dict(upsample_cfg=dict(gating=False)))\n'
    )
    place = 'model.decode_head.upsample_cfg'
    cfg = load_config(str(tmp_path / 'config.py'), {f'{place}.type': 'carafe'})
    assert cfg.model.decode_head.upsample_cfg == dict(type='carafe')
    assert capsys.readouterr().err == f"{place} is carafe now, without fade's gating=False\n"
