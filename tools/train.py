"""Train a model, with any upsampler."""

import argparse
import os
import warnings

warnings.filterwarnings('ignore', message='pkg_resources is deprecated')

import torch
from mmengine.config import Config

from fade_mm import run
from fade_mm.hosts.base import host_of
from fade_mm.hosts.configs import type_name


def parse_args() -> argparse.Namespace:
    parser = run.ToolParser(
        __doc__,
        'segformer/segformer_mit-b0_fade_1xb4-1500_camvid-256x256 --resume',
        'mine.py --cfg-options model.neck.type=fade_mm.FPN model.neck.upsample_cfg.type=fade',
    )
    parser.add_argument(
        'config', help='file, name of one of ours, or LIBRARY::PATH for one of a library'
    )
    parser.add_argument('--work-dir', help='where logs and checkpoints go')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from a checkpoint; without a path, from the latest in the work dir',
    )
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision (GPU)')
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help='scale the learning rate with the batch size'
    )
    parser.add_cfg_options()
    parser.add_argument(
        '--return-memory', action='store_true', help='give freed memory back to the system at once'
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def check_amp(cfg: Config) -> None:
    """Raise where mixed precision is asked for and cannot be had."""
    if type_name(cfg.optim_wrapper) == 'AmpOptimWrapper' and not torch.cuda.is_available():
        raise run.SetupError(
            'mixed precision (--amp, or AmpOptimWrapper in the config) needs a GPU, and none is '
            'available; leave it out, or set optim_wrapper.type=OptimWrapper'
        )


def enable_auto_scale_lr(cfg: Config) -> None:
    """Scale the learning rate with the batch size."""
    if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
        raise run.SetupError(
            '--auto-scale-lr needs the batch size that the learning rate is meant for; '
            'set --cfg-options auto_scale_lr.base_batch_size=N'
        )
    cfg.auto_scale_lr.enable = True


def main() -> None:
    args = parse_args()
    kept = not args.return_memory and run.keep_freed_memory()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    options = dict(args.cfg_options or {})
    if args.amp:
        options |= {'optim_wrapper.type': 'AmpOptimWrapper', 'optim_wrapper.loss_scale': 'dynamic'}
    cfg = run.load_config(args.config, options, args.work_dir, args.launcher)
    run.check_loops(cfg, 'train')
    host_of(cfg).check_run(cfg)
    check_amp(cfg)
    if args.auto_scale_lr:
        enable_auto_scale_lr(cfg)
    resumed = None
    if args.resume or cfg.get('resume'):
        checkpoint = args.resume or cfg.get('load_from') or 'auto'
        resumed = run.prepare_resumption(cfg, checkpoint)
        if resumed is None:
            print(f'No checkpoint in {cfg.work_dir} to resume from: training from the beginning.')
        elif done := run.finished(cfg, resumed['meta']):
            print(done)
            return
    run.check_weights([cfg.get('load_from'), *run.pretrained_weights(cfg)])
    run.add_hook(
        cfg,
        type='fade_mm.CheckpointFitHook',
        may_lack_upsamplers=not cfg.get('resume'),
        may_lack=cfg.get('load_from_may_lack', []),
    )
    run.add_hook(cfg, type='fade_mm.ResultHook', config=args.config, options=options)
    run.monitor_upsamplers(cfg)
    run.join_processes(args.launcher)
    runner = run.CheckedRunner.from_cfg(cfg)
    if kept:
        runner.logger.info(
            'Memory stays reserved, which is quicker; --return-memory gives it back.'
        )
    runner.resumed = resumed
    runner.train()


if __name__ == '__main__':
    run.run_tool(main)
