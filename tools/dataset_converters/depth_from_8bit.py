"""Depth maps of 8 bits, with a scale for each, as PNGs of 16 bits beside their pictures.

A folder that has images/{training,validation}/NAME.jpg, depth/{training,validation}/NAME.png and
depth_scales.csv, with the columns split, name and dmax_m, becomes one with the same images and
depth in millimetres: metres are (v + 0.5) * dmax_m / 255. Labels, where annotations/ has them, are
copied, too.
"""

import argparse
import csv
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
from rich.progress import track

UNITS = 1000  # a metre


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='for example:\n  %(prog)s downloads/nyu data/nyu',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('root', type=Path, help='the folder')
    parser.add_argument('out', type=Path, help='folder to make')
    return parser.parse_args()


def read_scales(root: Path) -> dict[Path, float]:
    """The largest depth in metres of each map, by its place below ``depth``."""
    try:
        with open(root / 'depth_scales.csv', newline='') as file:
            return {
                Path(row['split'], f'{row["name"]}.png'): float(row['dmax_m'])
                for row in csv.DictReader(file)
            }
    except (KeyError, OSError, ValueError) as error:
        sys.exit(
            f'error: {root}/depth_scales.csv must have the columns split, name and dmax_m '
            f'({type(error).__name__}: {error})'
        )


def convert(values: np.ndarray, largest: float) -> np.ndarray:
    """A depth map in millimetres.

    Args:
        values: The map as it is stored, uint8.
        largest: The depth in metres that 255 stands for.
    """
    return np.round(UNITS * (values + 0.5) * largest / 255).astype(np.uint16)


def main() -> None:
    args = parse_args()
    if args.out.exists():
        sys.exit(f'error: {args.out} exists already; remove it or choose another folder')
    scales = read_scales(args.root)
    unfinished = args.out.with_name(f'{args.out.name}.unfinished')
    shutil.rmtree(unfinished, ignore_errors=True)
    for place, largest in track(scales.items(), description='maps'):
        path = args.root / 'depth' / place
        values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if values is None or values.dtype != np.uint8 or values.ndim != 2:
            sys.exit(f'error: {path} is no map of 8 bits')
        written, picture = unfinished / 'depth' / place, 'images' / place.with_suffix('.jpg')
        for file in (written, unfinished / picture):
            file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(written), convert(values, largest))
        shutil.copyfile(args.root / picture, unfinished / picture)
    if (args.root / 'annotations').is_dir():
        shutil.copytree(args.root / 'annotations', unfinished / 'annotations')
    unfinished.rename(args.out)
    print(f'{args.out}: {len(scales)} depth maps, in millimetres')


if __name__ == '__main__':
    main()
