"""Configs by their names, in a checkout and as a wheel has them."""

import re

import pytest
from mmengine.config import Config

from fade_mm import shipped
from fade_mm.errors import SetupError
from fade_mm.run import ResultHook, build_model, load_config

FADE = 'segformer/segformer_mit-b0_fade_1xb8-400_shapes-128x128'
FILE = shipped.root() / f'configs/{FADE}.py'
ALL = sorted((shipped.root() / 'configs').rglob('*.py'))


@pytest.mark.parametrize('name', [FADE, FADE.partition('/')[2]])
@pytest.mark.parametrize('before', ['', 'configs/', 'fade_mm::'])
@pytest.mark.parametrize('after', ['', '.py'])
def test_a_config_is_found_by_its_name(name, before, after, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = f'{before}{name}{after}'
    assert shipped.find_config(name) == FILE
    cfg = load_config(name)
    assert cfg.filename == str(FILE)
    assert cfg.work_dir == f'work_dirs/{FILE.stem}'
    assert ResultHook(name).config == f'configs/{FADE}.py'


def test_files_names_are_enough():
    models = [path for path in ALL if path.parent.parent.name == 'configs']
    assert all(shipped.find_config(path.stem) == path for path in models)
    assert shipped.find_config('_base_/schedules/scratch_1500').is_file()


def test_a_file_of_the_users_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / FILE.name
    mine.write_text("model = dict(type='EncoderDecoder')\ndefault_scope = 'mmseg'\nmine = True\n")
    assert load_config(FILE.name).mine


@pytest.mark.parametrize(
    ('wrong', 'near'),
    [
        (FADE.replace('400', '500'), FADE),
        ('segformer_mit-b0_fade_1xb8', FADE),
        (f'configs/{FADE[:-3]}.py', FADE),
        ('mask_rcnn/mask-rcnn_r50_fpn_fade_2x_coco.py', 'mask_rcnn/mask-rcnn_r50_fpn_fade_1x_coco'),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(wrong, near):
    with pytest.raises(SetupError, match=f'^there is no config {re.escape(wrong)}; .*{near}'):
        load_config(wrong)


def test_what_is_like_none_of_ours_is_only_not_there():
    with pytest.raises(SetupError, match=r'^there is no config zzz\.py$'):
        load_config('zzz.py')


@pytest.fixture
def heir(tmp_path):
    """A config elsewhere that takes a part out of what it inherits."""
    path = tmp_path / 'mine.py'
    path.write_text(
        f"_base_ = 'fade_mm::{FADE}.py'\nmodel = _base_.model\nmodel.decode_head.channels = 32\n"
    )
    return path


def test_ours_are_inherited_from_elsewhere(heir):
    for cfg in (load_config(str(heir)), Config.fromfile(heir)):
        assert cfg.model.decode_head == {**load_config(FADE).model.decode_head, 'channels': 32}
    assert build_model(load_config(str(heir))).decode_head.upsamplers


def test_a_wrong_one_is_answered_with_the_nearest(heir):
    heir.write_text(heir.read_text().replace('400', '500'))
    with pytest.raises(SetupError, match=rf'{heir} cannot be read: there is no .*: {FADE}'):
        load_config(str(heir))


def test_the_host_libraries_are_inherited_as_before(heir):
    heir.write_text("_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'\n")
    assert load_config(str(heir)).model.type == 'RetinaNet'


def test_an_installed_package_has_them_inside(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, '_PACKAGE', tmp_path)
    assert shipped.root() == tmp_path.parent
    (tmp_path / '.mim/configs/bts').mkdir(parents=True)
    (tmp_path / '.mim/configs/bts/a.py').touch()
    assert shipped.find_config('bts/a') == tmp_path / '.mim/configs/bts/a.py'
