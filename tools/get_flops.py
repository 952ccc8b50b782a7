"""Parameters and GFLOPs of a model, with any upsampler.

One GFLOP is 10^9 multiply-adds, counted by mmengine as the libraries' own tools do: products
(convolutions, linear layers, attention, and the operators of fade_mm), norms, interpolation and
pooling count; other elementwise operators, RoI pooling and post-processing do not. Auxiliary
heads, which only train, are left out. Two-stage detectors get 1,000 proposals, the first 100 with
masks (in cascades, all). A model whose library has no plain forward without ground truth is
counted as it predicts; one whose post-processing fails on random boxes cannot be.
tools/paper_tables.py counts as the papers do, which differs by a little.
"""

import argparse
import contextlib
import sys
import warnings

warnings.filterwarnings('ignore')

from fade_mm import run
from fade_mm.analysis.complexity import count_flops, count_parameters, predicting_model
from fade_mm.hosts import host_of


def parse_args() -> argparse.Namespace:
    parser = run.ToolParser(
        __doc__,
        'segformer/segformer_mit-b1_fade_1xb16-160k_ade20k-512x512 --shape 512 512',
    )
    parser.add_argument(
        'config', help='file, name of one of ours, or LIBRARY::PATH for one of a library'
    )
    parser.add_argument(
        '--shape',
        nargs=2,
        type=int,
        metavar=('H', 'W'),
        help='size of the image; default: what its library is usually counted at',
    )
    parser.add_cfg_options()
    args = parser.parse_args()
    if args.shape and min(args.shape) < 1:
        parser.error(f'--shape must be positive, got {args.shape[0]} {args.shape[1]}')
    return args


def main() -> None:
    args = parse_args()
    with contextlib.redirect_stdout(sys.stderr):  # mmengine logs there
        cfg = run.load_config(args.config, args.cfg_options)
        shape = tuple(args.shape or host_of(cfg).input_size(cfg))
        model = predicting_model(cfg)
        parameters, flops = count_parameters(model), count_flops(model, shape)
    print(f'input       {shape[0]} x {shape[1]}')
    print(f'parameters  {parameters / 1e6:.2f} M  ({parameters:,})')
    print(f'FLOPs       {flops / 1e9:.2f} G  (multiply-adds)')


if __name__ == '__main__':
    run.run_tool(main)
