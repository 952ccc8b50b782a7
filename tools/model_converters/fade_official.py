"""Convert a SegFormer checkpoint of FADE's authors (or of NVlabs) into one of this library's."""

import argparse
import os
import warnings
from pathlib import Path

warnings.filterwarnings('ignore', message='pkg_resources is deprecated')

from fade_mm import run
from fade_mm.hosts import host_of
from fade_mm.papers.fade_segformer import load_official_segformer

CONFIGS = {
    'segformer-b1': 'segformer_mit-b1_fade_1xb16-160k_ade20k-512x512.py',
    'segformer-b1-lite': 'segformer_mit-b1_fade-lite_1xb16-160k_ade20k-512x512.py',
    'segformer-b1-bilinear': 'segformer_mit-b1_bilinear_1xb16-160k_ade20k-512x512.py',
}
FOLDER = Path(__file__).parents[2] / 'configs' / 'segformer'


def parse_args() -> argparse.Namespace:
    parser = run.ToolParser(__doc__)
    parser.add_argument('input', help="the authors' checkpoint")
    parser.add_argument('output', type=Path, help='the file to write; must not exist')
    parser.add_argument(
        '--to',
        choices=CONFIGS,
        default='segformer-b1',
        help='the model: with FADE (default), with FADE-Lite, or with bilinear upsampling',
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
    try:
        load_official_segformer(model, checkpoint)
    except run.SetupError as error:
        models = ', '.join(CONFIGS)
        raise run.SetupError(f'{error}\nTried --to {args.to}; there are {models}.') from error
    meta = dict(dataset_meta=host_of(cfg).dataset_meta(cfg, {}))
    run.save_checkpoint(dict(state_dict=model.state_dict(), meta=meta), args.output)
    print(f'written: {args.output}\nto be used with {os.path.relpath(config)}')


if __name__ == '__main__':
    run.run_tool(main)
