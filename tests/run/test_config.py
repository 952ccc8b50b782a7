"""What a config may leave out, and what of it names weights."""

import runpy
from importlib.metadata import PackageNotFoundError

import pytest
import torch
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.model.weight_init import PretrainedInit
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import METRICS, MODELS, TRANSFORMS, DefaultScope

from fade_mm.hosts import host_of
from fade_mm.hosts.configs import type_name
from fade_mm.hosts.mmdet import MMDetHost
from fade_mm.run import (
    SetupError,
    check_loops,
    check_weights,
    load_config,
    mmengine_fixes,
    pretrained_weights,
)
from tests.tools import BCCD, CAMVID, ROOT, bccd_options, camvid_options, config, run


def backbone(**arguments):
    return Config(dict(model=dict(backbone=arguments)))


@pytest.mark.parametrize(
    'value', [True, False, None, '', dict(url='x'), ['x'], 1], ids=lambda value: repr(value)
)
def test_what_no_file_is_named_by_is_passed_over(value):
    for cfg in (
        backbone(type='timm.TIMMBackbone', pretrained=value),
        backbone(init_cfg=dict(type='Pretrained', checkpoint=value)),
        backbone(init_cfg=dict(type='Pretrained')),
    ):
        assert pretrained_weights(cfg) == set()
    check_weights([value])


@pytest.mark.parametrize(
    'cfg',
    [
        backbone(pretrained='gone.pth'),
        backbone(init_cfg=dict(type='Pretrained', checkpoint='gone.pth')),
        backbone(init_cfg=[dict(type='Normal'), dict(type='Pretrained', checkpoint='gone.pth')]),
        backbone(init_cfg=dict(type=PretrainedInit, checkpoint='gone.pth')),
        backbone(pretrained=True, init_cfg=dict(type='Pretrained', checkpoint='gone.pth')),
    ],
)
def test_files_that_are_named_are_looked_for(cfg):
    assert pretrained_weights(cfg) == {'gone.pth'}
    with pytest.raises(SetupError, match=r'gone\.pth cannot be loaded: there is no such file'):
        check_weights(pretrained_weights(cfg))


def test_names_of_classes():
    assert type_name(dict(type='mmdet.CocoMetric')) == 'CocoMetric'
    assert type_name(dict(type=PretrainedInit)) == 'PretrainedInit'
    assert type_name(dict(metrics=[])) == type_name('CocoMetric') == ''


def test_panoptic_data_are_recognised_by_class_too(monkeypatch):
    pytest.importorskip('mmdet')
    from mmdet.evaluation import CocoPanopticMetric

    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(SetupError, match=r'CocoPanopticMetric, for which .* panopticapi'):
        MMDetHost().check_run(Config(dict(val_evaluator=dict(type=CocoPanopticMetric))))


PARTS = dict(
    train_dataloader=dict(x=1), train_cfg=dict(x=1), optim_wrapper=dict(x=1),
    val_dataloader=dict(x=1), val_cfg=dict(), val_evaluator=dict(x=1),
    test_dataloader=dict(x=1), test_cfg=dict(), test_evaluator=dict(x=1),
)  # fmt: skip


def without(*names):
    return Config({key: value for key, value in PARTS.items() if not key.startswith(names)})


@pytest.mark.parametrize('needed', ['train', 'test'])
def test_what_is_not_needed_may_be_left_out(needed):
    check_loops(without('nothing'), needed)
    check_loops(without('val'), needed)
    check_loops(without('val', *(('test',) if needed == 'train' else ('train', 'optim'))), needed)
    cfg = without('val')
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    check_loops(cfg, needed)


@pytest.mark.parametrize(
    ('cfg', 'needed', 'message'),
    [
        (without('train', 'optim'), 'train', 'cannot train: it has no train_dataloader, train_cfg'),
        (without('test'), 'test', 'cannot test: it has no test_dataloader, test_cfg, test_evalu'),
        (
            without('val_evaluator'),
            'train',
            'has val_dataloader and val_cfg, but no val_evaluator; give all of them, or none '
            r'\(val_dataloader=None val_cfg=None\)',
        ),
        (without('optim'), 'train', 'but no optim_wrapper; give all'),
        (
            Config({**without('train', 'optim'), 'param_scheduler': [dict(x=1)]}),
            'test',
            'set param_scheduler=None',
        ),
        (
            Config({**without('nothing'), 'runner_type': 'FlexibleRunner'}),
            'train',
            "runner_type='FlexibleRunner' is not used.*import fade_mm.registry",
        ),
    ],
)
def test_what_is_missing_is_named(cfg, needed, message):
    with pytest.raises(SetupError, match=message):
        check_loops(cfg, needed)


@pytest.fixture
def checkpoint_of(tmp_path):
    """A function that saves untrained weights of a config's model."""

    def save(path):
        cfg = load_config(str(path))
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            model = MODELS.build(cfg.model)
        torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / 'weights.pth')
        return tmp_path / 'weights.pth'

    return save


def changed(folder, base, **values):
    """A config that differs from another one in some of its values."""
    cfg = Config.fromfile(base)
    for key, value in values.items():
        cfg[key] = value
    cfg.dump(folder / 'changed.py')
    return folder / 'changed.py'


@pytest.mark.slow
def test_an_optim_wrapper_without_a_type_trains(segmentation_root, tmp_path):
    optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
    cfg = changed(
        tmp_path, config(CAMVID, 'bilinear'), optim_wrapper=optim_wrapper, auto_scale_lr=None
    )
    options = camvid_options(segmentation_root, 2)
    run('train', cfg, '--work-dir', tmp_path / 'work', '--cfg-options', *options)
    assert (tmp_path / 'work/iter_2.pth').exists()
    with pytest.raises(SystemExit, match=r'auto_scale_lr\.base_batch_size=N'):
        run('train', cfg, '--auto-scale-lr')


def test_amp_is_recognised_by_class_too(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    check_amp = runpy.run_path(str(ROOT / 'tools/train.py'))['check_amp']
    check_amp(Config(dict(optim_wrapper=dict(type=OptimWrapper))))
    with pytest.raises(SetupError, match=r'--amp.* needs a GPU'):
        check_amp(Config(dict(optim_wrapper=dict(type=AmpOptimWrapper))))


NO_TEST = dict.fromkeys(('test_dataloader', 'test_cfg', 'test_evaluator'))
NO_VALIDATION = dict.fromkeys(('val_dataloader', 'val_cfg', 'val_evaluator'))


def test_a_config_without_a_test_set_says_so(tmp_path, checkpoint_of):
    weights = checkpoint_of(config(CAMVID, 'bilinear'))
    cfg = changed(tmp_path, config(CAMVID, 'bilinear'), **NO_TEST)
    with pytest.raises(SystemExit, match='error: the config cannot test: it has no test_data') as e:
        run('test', cfg, weights)
    assert '\n' not in str(e.value)
    with pytest.raises(SystemExit, match='error: the config has no test_dataloader, by which'):
        run('image_demo', weights, cfg, weights, '--out-dir', tmp_path / 'out')


def test_a_config_without_a_validation_trains(segmentation_root, tmp_path):
    cfg = changed(tmp_path, config(CAMVID, 'bilinear'), **NO_VALIDATION, **NO_TEST)
    options = [
        option
        for option in camvid_options(segmentation_root, 2)
        if not option.startswith(('val_', 'test_'))
    ]
    run('train', cfg, '--work-dir', tmp_path / 'work', '--cfg-options', *options)
    assert (tmp_path / 'work/iter_2.pth').exists()


def test_pictures_need_what_draws_them(tmp_path, checkpoint_of):
    weights = checkpoint_of(config(CAMVID, 'bilinear'))
    cfg = changed(tmp_path, config(CAMVID, 'bilinear'), visualizer=None)
    with pytest.raises(SystemExit, match='--show-dir needs a visualizer'):
        run('test', cfg, weights, '--show-dir', tmp_path / 'show')


@pytest.mark.slow
def test_metrics_may_stand_in_an_evaluator(segmentation_root, tmp_path):
    evaluator = dict(metrics=dict(type='mmseg.IoUMetric'))
    cfg = changed(tmp_path, config(CAMVID, 'bilinear'), test_evaluator=evaluator)
    options = list(camvid_options(segmentation_root, 2))
    run('train', cfg, '--work-dir', tmp_path, '--cfg-options', *options)
    run(
        'test', cfg, tmp_path / 'iter_2.pth', '--work-dir', tmp_path / 'test', '--out',
        tmp_path / 'out', '--cfg-options', *options,
    )  # fmt: skip
    assert len(list((tmp_path / 'out').glob('*.png'))) == 3


@pytest.mark.slow
def test_augmented_tests_of_wrapped_data_sets(detection_root, tmp_path):
    """What ``--tta`` and ``--out`` add is found without a default scope, too."""
    base = config(BCCD, 'nearest')
    options = list(bccd_options(detection_root))
    run('train', base, '--work-dir', tmp_path, '--cfg-options', *options)
    loader = Config.fromfile(base).test_dataloader
    loader.dataset.data_root = str(detection_root)
    loader.dataset = dict(type='ConcatDataset', datasets=[loader.dataset])
    cfg = changed(tmp_path, base, test_dataloader=loader)
    options = [option for option in options if not option.startswith('test_dataloader.dataset')]
    arguments = [cfg, tmp_path / 'epoch_1.pth', '--tta', '--out', tmp_path / 'out.pkl']
    run('test', *arguments, '--work-dir', tmp_path / 'test', '--cfg-options', *options)
    assert (tmp_path / 'out.pkl').exists()
    tested = Config.fromfile(next((tmp_path / 'test').glob('*.py')))
    assert tested.model.type == 'DetTTAModel'
    assert MODELS.get('DetTTAModel')
    METRICS.build(tested.test_evaluator[-1])
    TRANSFORMS.build(tested.test_dataloader.dataset.datasets[0].pipeline[-1])


def test_a_fork_of_mmsegmentation_is_found_by_its_module(monkeypatch):
    """As onedl-mmsegmentation is: the module is there, a distribution of its name is not."""
    pytest.importorskip('mmseg')
    monkeypatch.setitem(MODULE2PACKAGE, 'mmseg', 'mmsegmentation')
    mmengine_fixes.find_forks()
    assert MODULE2PACKAGE['mmseg'] == 'mmsegmentation'  # installed under its own name

    def version(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(mmengine_fixes, 'version', version)
    mmengine_fixes.find_forks()
    cfg = Config.fromfile(
        ROOT / 'configs/segformer/segformer_mit-b0_fade_8xb2-160k_ade20k-512x512.py'
    )
    assert MODULE2PACKAGE['mmseg'] == 'mmseg'
    assert cfg.model.decode_head.upsample_cfg.type == 'fade'


@pytest.mark.parametrize('broken', ['mine.py', 'base.py'])
def test_a_config_that_is_no_python_is_named_with_its_line(tmp_path, broken):
    (tmp_path / 'base.py').write_text("model = dict(type='BaseModel')\n")
    (tmp_path / 'mine.py').write_text("_base_ = './base.py'\n")
    (tmp_path / broken).write_text('\nx = dict(\n')
    with pytest.raises(SetupError, match=rf"SyntaxError: '\(' was never .*{broken}, line 2\)$"):
        load_config(str(tmp_path / 'mine.py'))


def test_a_file_that_is_not_there_is_answered_with_the_nearest_beside_it(tmp_path):
    (tmp_path / 'my_mask_rcnn.py').touch()
    with pytest.raises(SetupError, match=r'my_maskrcnn\.py; there is .*my_mask_rcnn\.py$'):
        load_config(str(tmp_path / 'my_maskrcnn.py'))


@pytest.mark.parametrize(
    ('neck', 'message'),
    [
        (
            dict(type='fade_mm.FPN', upsample_cfg=dict(type='fade_lit')),
            "the nearest is 'fade_lite'",
        ),
        (
            dict(type='FPN', upsample_cfg=dict(mode='fade')),
            r"mode 'fade'; write type='fade_mm\.FPN', upsample_cfg=dict\(type='fade'\)",
        ),
        (
            dict(type='fade_mm.FPN', upsample_cfg=dict(mode='fade')),
            r"mode 'fade'; write type='fade_mm\.FPN', upsample_cfg=dict\(type='fade'\)",
        ),
        (
            dict(type='ChannelMapper', upsample_cfg=dict(type='fade')),
            r'ChannelMapper takes no upsample_cfg; these do: .*fade_mm\.FPN, ',
        ),
    ],
)
def test_an_upsampler_that_is_not_there_is_named_before_a_work_dir_is_made(neck, message):
    cfg = Config(dict(default_scope='mmdet', model=dict(type='FasterRCNN', neck=neck)))
    with pytest.raises(SetupError, match=message):
        host_of(cfg).check_model(cfg)


@pytest.mark.parametrize('mode', ['nearest', 'bilinear'])
@pytest.mark.parametrize('kind', ['FPN', 'fade_mm.FPN'])
def test_interpolation_is_known_to_the_hosts(kind, mode):
    neck = dict(type=kind, upsample_cfg=dict(mode=mode))
    cfg = Config(dict(default_scope='mmdet', model=dict(type='FasterRCNN', neck=neck)))
    host_of(cfg).check_model(cfg)
