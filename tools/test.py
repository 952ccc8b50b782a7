"""Test a model, with any upsampler."""

import argparse
import os
import warnings

warnings.filterwarnings('ignore', message='pkg_resources is deprecated')

from fade_mm import run
from fade_mm.hosts import host_of


def parse_args() -> argparse.Namespace:
    parser = run.ToolParser(__doc__, 'CONFIG CHECKPOINT --show-dir pictures')
    parser.add_argument(
        'config', help='file, name of one of ours, or LIBRARY::PATH for one of a library'
    )
    parser.add_argument('checkpoint', help='checkpoint to test')
    parser.add_argument('--work-dir', help='where the metrics go')
    parser.add_argument(
        '--out',
        help='keep the predictions: a .pkl file, or a folder (label maps, depth maps of 16 bits)',
    )
    parser.add_argument('--show-dir', help='folder for pictures of the predictions')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    parser.add_argument(
        '--monitor',
        action='store_true',
        help='measure what the upsamplers do: whether their kernels depend on the picture',
    )
    parser.add_cfg_options('test_dataloader.dataset.data_root=DIR')
    parser.add_argument(
        '--return-memory', action='store_true', help='give freed memory back to the system at once'
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if not args.return_memory and run.keep_freed_memory():
        print('Memory stays reserved, which is quicker; --return-memory gives it back.')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    run.check_weights([args.checkpoint])
    cfg = run.load_config(args.config, args.cfg_options, args.work_dir, args.launcher)
    run.check_loops(cfg, 'test')
    host = host_of(cfg)
    if args.out:
        host.keep_predictions(cfg, args.out)
    if args.show_dir:
        host.draw(cfg, args.show_dir)
    if args.tta:
        host.augment(cfg)
    if args.monitor:
        run.add_hook(cfg, type='fade_mm.UpsamplerMonitorHook', interval=0, testing=True)
    hook = dict(type='fade_mm.ResultHook', config=args.config, options=args.cfg_options)
    run.add_hook(cfg, **hook)
    run.evaluate(cfg, args.checkpoint)
    for place in filter(None, (args.out, args.show_dir)):
        print(f'written: {place}')


if __name__ == '__main__':
    run.run_tool(main)
