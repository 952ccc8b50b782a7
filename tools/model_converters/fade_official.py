"""Convert a SegFormer checkpoint of FADE's authors (or of NVlabs) into one of this library's."""

import argparse
import os
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

warnings.filterwarnings('ignore', message='pkg_resources is deprecated')

import torch
from mmengine.registry import init_default_scope
from mmengine.runner import CheckpointLoader
from mmseg.registry import DATASETS, MODELS

from fade_mm import engine

CONFIGS = {
    'segformer-b1': 'segformer_mit-b1_fade_1xb16-160k_ade20k-512x512.py',
    'segformer-b1-lite': 'segformer_mit-b1_fade-lite_1xb16-160k_ade20k-512x512.py',
    'segformer-b1-bilinear': 'segformer_mit-b1_bilinear_1xb16-160k_ade20k-512x512.py',
}
FOLDER = Path(__file__).parents[2] / 'configs' / 'segformer'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('input', help="the authors' checkpoint")
    parser.add_argument('output', type=Path, help='the file to write; must not exist')
    parser.add_argument(
        '--to',
        choices=CONFIGS,
        default='segformer-b1',
        help='the model: with FADE (default), with FADE-Lite, or with bilinear upsampling',
    )
    return parser.parse_args()


def check_output(path: Path) -> None:
    """Raise where a file cannot be written without replacing another."""
    if path.exists():
        raise engine.SetupError(f'{path} exists; remove it, or give another name')
    if not path.parent.is_dir():
        raise engine.SetupError(f'there is no folder {path.parent} to write {path.name} into')
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise engine.SetupError(f'{path.parent} is not writable; give another folder')


def save(content: dict, path: Path) -> None:
    """Write a checkpoint; the file appears when it is complete."""
    with TemporaryDirectory(dir=path.parent) as folder:
        written = Path(folder) / path.name
        torch.save(content, written)
        os.replace(written, path)


def main() -> None:
    args = parse_args()
    check_output(args.output)
    engine.check_weights([args.input])
    checkpoint = CheckpointLoader.load_checkpoint(args.input, 'cpu')

    config = FOLDER / CONFIGS[args.to]
    cfg = engine.load_config(str(config))
    cfg.model.backbone.init_cfg = None
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    try:
        engine.load_official_segformer(model, checkpoint)
    except engine.SetupError as error:
        models = ', '.join(CONFIGS)
        raise engine.SetupError(f'{error}\nTried --to {args.to}; there are {models}.') from error
    dataset_meta = DATASETS.get(cfg.test_dataloader.dataset.type).METAINFO
    save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta=dataset_meta)), args.output)
    print(f'written: {args.output}\nto be used with {os.path.relpath(config)}')


if __name__ == '__main__':
    engine.run_tool(main)
