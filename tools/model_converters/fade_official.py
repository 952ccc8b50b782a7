"""Convert a checkpoint of FADE's authors into one of this library's.

SegFormer's (NVlabs' own, too) and A2U Matting's are known. An ImageNet encoder for matting needs no
conversion: model.pretrained takes it.
"""

import argparse
import os
import warnings
from pathlib import Path

warnings.filterwarnings('ignore', message='pkg_resources is deprecated')

from fade_mm import run
from fade_mm.hosts import host_of
from fade_mm.papers.a2u_matting import load_official_a2u_matting
from fade_mm.papers.fade_segformer import load_official_segformer

SEGFORMER = 'segformer/segformer_mit-b1_{}_1xb16-160k_ade20k-512x512.py'
MATTING = 'matting/a2u-matting_r34_{}_1xb16-180k_composition-1k-512x512.py'
CONFIGS = {
    'segformer-b1': SEGFORMER.format('fade'),
    'segformer-b1-lite': SEGFORMER.format('fade-lite'),
    'segformer-b1-bilinear': SEGFORMER.format('bilinear'),
    'a2u-matting': MATTING.format('fade'),
    'a2u-matting-lite': MATTING.format('fade-lite'),
    'a2u-matting-bilinear': MATTING.format('bilinear'),
}
FOLDER = Path(__file__).parents[2] / 'configs'


def parse_args() -> argparse.Namespace:
    parser = run.ToolParser(__doc__, 'theirs.pth ours.pth --to segformer-b1-lite')
    parser.add_argument('input', help="the authors' checkpoint")
    parser.add_argument('output', type=Path, help='the file to write; must not exist')
    parser.add_argument(
        '--to',
        choices=CONFIGS,
        default='segformer-b1',
        help='the model: SegFormer (default) or A2U Matting, with FADE, FADE-Lite or bilinear '
        'upsampling',
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    run.check_output(args.output)
    run.check_weights([args.input])
    checkpoint = run.read_checkpoint(args.input)

    config = FOLDER / CONFIGS[args.to]
    cfg = run.load_config(str(config))
    model = run.build_model(cfg)
    is_matting = args.to.startswith('a2u-matting')
    load = load_official_a2u_matting if is_matting else load_official_segformer
    try:
        load(model, checkpoint)
    except run.SetupError as error:
        models = ', '.join(CONFIGS)
        raise run.SetupError(f'{error}\nTried --to {args.to}; there are {models}.') from error
    meta = dict(dataset_meta=host_of(cfg).dataset_meta(cfg, {}))
    run.save_checkpoint(dict(state_dict=model.state_dict(), meta=meta), args.output)
    print(f'written: {args.output}\nto be used with {os.path.relpath(config)}')


if __name__ == '__main__':
    run.run_tool(main)
