"""Running the command-line tools in this process."""

import runpy
import sys
from pathlib import Path
from unittest import mock

from mmengine.utils import ManagerMixin

ROOT = Path(__file__).parents[2]
CAMVID = 'configs/segformer/segformer_mit-b0_{}_1xb4-1500_camvid-256x256.py'
BCCD = 'configs/faster_rcnn/faster-rcnn_r18_fpn_{}_1xb4-12e_bccd-320x240.py'
SHAPES = 'configs/mask_rcnn/mask-rcnn_r18_fpn_{}_1xb4-5e_shapes-128x128.py'
BTS = 'configs/bts/bts_mobilenet-v2_{}_1xb4-1200_nyu-320x240.py'
UNET = 'configs/unet_depth/unet-depth_mobilenet-v2_{}_1xb4-1200_nyu-320x240.py'


def run(tool, *arguments):
    """Run ``tools/<tool>.py``; what it would print as an error is raised as `SystemExit`."""
    forget(ManagerMixin)
    path = ROOT / 'tools' / f'{tool}.py'
    with mock.patch.object(sys, 'argv', [str(path), *map(str, arguments)]):
        return runpy.run_path(str(path), run_name='__main__')


def forget(cls):
    """Drop mmengine's named singletons (loggers, visualisers), as a new process would."""
    cls._instance_dict.clear()
    for child in cls.__subclasses__():
        forget(child)


def config(template, upsampler):
    return ROOT / template.format(upsampler)


def data_options(root, loaders=('train', 'val', 'test')):
    """``--cfg-options`` that point a config at generated data, without worker processes."""
    for loader in loaders:
        yield f'{loader}_dataloader.dataset.data_root={root}'
        yield f'{loader}_dataloader.num_workers=0'


def camvid_options(root, iterations=4, **options):
    """A handful of iterations on tiny crops of three classes."""
    classes = "metainfo.classes=['a','b','c']"
    palette = 'metainfo.palette=[[0,0,0],[9,9,9],[99,99,99]]'
    yield from data_options(root)
    for loader in ('train', 'val', 'test'):
        yield f'{loader}_dataloader.dataset.{classes}'
        yield f'{loader}_dataloader.dataset.{palette}'
    fixed = {
        'train_dataloader.batch_size': 2,
        'train_cfg.max_iters': iterations,
        'train_cfg.val_interval': iterations,
        'default_hooks.checkpoint.interval': 2,
        'default_hooks.checkpoint.max_keep_ckpts': 9,
        'model.data_preprocessor.size': '(32,32)',
        'train_dataloader.dataset.pipeline.2.crop_size': '(32,32)',
        'model.decode_head.num_classes': 3,
        'model.decode_head.channels': 16,
    }
    yield from (f'{key}={value}' for key, value in {**fixed, **options}.items())


def nyu_options(root, iterations=4, **options):
    """A handful of iterations on tiny crops, without pretrained weights."""
    yield from data_options(root)
    fixed = {
        'train_dataloader.batch_size': 2,
        'train_dataloader.dataset.pipeline.2.box': '(2,46,2,62)',
        'train_dataloader.dataset.pipeline.4.crop_size': '(32,48)',
        'train_cfg.max_iters': iterations,
        'train_cfg.val_interval': iterations,
        'param_scheduler.0.end': 2,
        'default_hooks.checkpoint.interval': 2,
        'default_hooks.checkpoint.max_keep_ckpts': 9,
        'model.backbone.init_cfg': 'None',
        'model.data_preprocessor.size': '(32,48)',
        'model.decode_head.channels': 16,
    }
    yield from (f'{key}={value}' for key, value in {**fixed, **options}.items())


def bccd_options(root, epochs=1, **options):
    """An epoch or so on tiny images."""
    yield from data_options(root)
    fixed = {
        'train_cfg.max_epochs': epochs,
        'val_evaluator.ann_file': f'{root}/val.json',
        'test_evaluator.ann_file': f'{root}/val.json',
        'model.train_cfg.rpn_proposal.max_per_img': 16,
        'model.train_cfg.rcnn.sampler.num': 16,
        'model.test_cfg.rpn.max_per_img': 16,
        'train_dataloader.batch_size': 2,
        'default_hooks.checkpoint.max_keep_ckpts': 9,
    }
    for loader, step in (('train', 2), ('val', 1), ('test', 1)):
        fixed[f'{loader}_dataloader.dataset.pipeline.{step}.scale'] = '(64,48)'
    yield from (f'{key}={value}' for key, value in {**fixed, **options}.items())
