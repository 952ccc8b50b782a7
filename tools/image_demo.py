"""Draw a model's predictions on pictures, and what its upsamplers did.

A matting model needs the trimap of each picture, too: --trimaps. It gives a drawing, alpha as a
grey picture, and a cut-out with transparency, whose colours are the foreground's alone.
"""

import argparse
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path

warnings.filterwarnings('ignore', message='pkg_resources is deprecated')

import cv2
import numpy as np
from mmengine.config import Config
from torch import nn

from fade_mm import run
from fade_mm.analysis.views import overlay, sheet, watch_upsamplers
from fade_mm.errors import counted
from fade_mm.hosts import Host, host_of
from fade_mm.run.drawn_predictions import distinct_names
from fade_mm.upsamplers import named_upsamplers

SUFFIXES = {'.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp'}


def parse_args() -> argparse.Namespace:
    parser = run.ToolParser(__doc__, 'pictures CONFIG CHECKPOINT --out-dir drawn --show-gate')
    parser.add_argument('images', nargs='+', type=Path, help='pictures, or folders of pictures')
    parser.add_argument(
        'config', help='file, name of one of ours, or LIBRARY::PATH for one of a library'
    )
    parser.add_argument('checkpoint', help='checkpoint of that config')
    parser.add_argument(
        '--trimaps',
        nargs='+',
        type=Path,
        help='for a matting model: a trimap for each picture, in their order, or one folder with '
        'trimaps of the same names',
    )
    parser.add_argument('--out-dir', type=Path, required=True, help='where the pictures go')
    parser.add_argument(
        '--show-gate',
        action='store_true',
        help="also draw each upsampler's gate (if it has one) and the entropy of its kernels, from "
        'blue (0) to yellow (1): all on one sheet with scales, and each alone',
    )
    parser.add_argument('--overwrite', action='store_true', help='replace pictures that are there')
    parser.add_argument('--device', help='e.g. cpu or cuda:0 (default: the best there is)')
    parser.add_cfg_options()
    return parser.parse_args()


def find_images(paths: list[Path]) -> list[Path]:
    """The pictures named, and those in the folders named."""
    found = []
    for path in paths:
        if not path.exists():
            raise run.SetupError(f'there is no picture {path}, and no folder of that name')
        if path.is_dir():
            found += sorted(x for x in path.iterdir() if x.suffix.lower() in SUFFIXES)
        else:
            found.append(path)
    if not found:
        raise run.SetupError(f'there are no pictures in {", ".join(map(str, paths))}')
    return found


def find_seconds(host: Host, images: list[Path], given: list[Path] | None) -> dict[Path, Path]:
    """What the model needs beside each picture; nothing where it needs nothing.

    Args:
        host: The model's.
        images: The pictures.
        given: What the user gave: files, or a folder.
    """
    if host.second is None:
        if given:
            raise run.SetupError(f'the model takes pictures alone; leave out --trimaps {given[0]}')
        return {}
    if not given:
        raise run.SetupError(f'the model needs a {host.second} for each picture: --trimaps')
    absent = [path for path in given if not path.exists()]
    if absent:
        raise run.SetupError(f'there is no {host.second} {absent[0]}, and no folder of that name')
    if len(given) == 1 and given[0].is_dir():
        there = {path.stem: path for path in find_images(given)}
        missing = [path for path in images if path.stem not in there]
        if missing:
            raise run.SetupError(
                f'{given[0]} has no {host.second} {missing[0].stem} for {missing[0]}'
            )
        given = [there[path.stem] for path in images]
    if len(given) != len(images):
        raise run.SetupError(
            f'{counted(len(given), "trimap")} for {counted(len(images), "picture")}; '
            'give --trimaps a file for each, in their order, or one folder'
        )
    pairs = dict(zip(images, given, strict=True))
    for path, second in pairs.items():
        if path.is_file():
            host.check_second(path, second)
    return pairs


def load_model(args: argparse.Namespace, cfg: Config) -> nn.Module:
    """The config's model, with a checkpoint that fits it."""
    for key in ('test_dataloader', 'visualizer'):
        if not cfg.get(key):
            raise run.SetupError(f'the config has no {key}, by which pictures are read and drawn')
    return run.init_model(cfg, args.checkpoint, args.device)


def predict(
    model: nn.Module, path: Path, picture: np.ndarray, show_gate: bool, *second: Path
) -> dict:
    """The pictures to write for one input, by the ending of their names.

    Args:
        model: From `load_model`.
        path: The input.
        picture: What it shows, ``(h, w, 3)``, uint8, BGR.
        show_gate: Whether to draw the upsamplers' gates and kernels too.
        second: What the model needs beside it, if anything.
    """
    host = host_of(model)
    with watch_upsamplers(model) if show_gate else nullcontext({}) as views:
        prediction = host.predict(model, path, *second)
    pictures = host.drawn(model, picture, prediction)
    if views:
        pictures['.upsamplers'] = sheet(picture, views)
    for name, view in views.items():
        pictures[f'.{name}.entropy'] = overlay(picture, view.entropy, content=view.content)
        if view.gate is not None:
            pictures[f'.{name}.gate'] = overlay(picture, view.gate, content=view.content)
    return pictures


def main() -> int:
    args = parse_args()
    images = find_images(args.images)
    names = distinct_names(images)
    there = [name for name in names.values() if (args.out_dir / f'{name}.png').exists()]
    if there and not args.overwrite:
        raise run.SetupError(
            f'{args.out_dir} has {there[0]}.png already; give another --out-dir, or --overwrite'
        )
    run.check_weights([args.checkpoint])
    cfg = run.load_config(args.config, args.cfg_options)
    seconds = find_seconds(host_of(cfg), images, args.trimaps)
    model = load_model(args, cfg)
    if args.show_gate and host_of(model).slides(model):
        raise run.SetupError(
            '--show-gate needs whole pictures, and this model predicts by sliding windows; '
            'set --cfg-options model.test_cfg.mode=whole'
        )
    if args.show_gate and not any(named_upsamplers(model)):
        print('the model has no upsampler of ours: neither gates nor entropies are drawn')
    args.out_dir.mkdir(parents=True, exist_ok=True)
    unreadable = 0
    for path in images:
        picture = cv2.imread(str(path)) if path.is_file() else None
        if picture is None:
            print(f'{path} cannot be read as a picture; skipped', file=sys.stderr)
            unreadable += 1
            continue
        second = [seconds[path]] if seconds else []
        for ending, content in predict(model, path, picture, args.show_gate, *second).items():
            cv2.imwrite(str(args.out_dir / f'{names[path]}{ending}.png'), content)
    print(f'{len(images) - unreadable} of {counted(len(images), "picture")}: {args.out_dir}')
    return 1 if unreadable else 0


if __name__ == '__main__':
    run.run_tool(main)
