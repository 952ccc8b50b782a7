"""Generate a data set on which boundaries matter: textured shapes that overlap.

The shapes have thin parts and holes and occlude each other; the colours of classes overlap, so
that outlines tell them apart. The same pictures come with labels in ADE20K's
layout and with boxes and masks in COCO's:

    OUT/images/{training,validation}/*.jpg
    OUT/annotations/{training,validation}/*.png           0 is the background
    OUT/annotations/instances_{training,validation}.json  categories 1 to 4
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask
from rich.progress import track

CLASSES = ('background', 'blob', 'ring', 'star', 'comb')
SUPERSAMPLING = 2  # pictures are drawn larger and shrunk, so that edges are smooth
SMALLEST = 20  # pixels of an instance that must be visible


def blob(rng: np.random.Generator, radius: float) -> list[np.ndarray]:
    """A rounded outline with lobes."""
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    lobes = sum(
        rng.uniform(0.05, 0.2) * np.cos(k * angles + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 5)
    )
    return [polar(angles, radius * (0.8 + lobes))]


def ring(rng: np.random.Generator, radius: float) -> list[np.ndarray]:
    """A disc with a hole: two outlines, filled between them."""
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    hole = polar(angles, np.full(60, radius * rng.uniform(0.55, 0.8)))
    return [polar(angles, np.full(60, radius)), hole + rng.uniform(-0.1, 0.1, 2) * radius]


def star(rng: np.random.Generator, radius: float) -> list[np.ndarray]:
    """Thin pointed rays."""
    rays = rng.integers(5, 9)
    angles = np.linspace(0, 2 * np.pi, 2 * rays, endpoint=False)
    reach = np.where(np.arange(2 * rays) % 2, rng.uniform(0.2, 0.35), 1.2)
    return [polar(angles, radius * reach)]


def comb(rng: np.random.Generator, radius: float) -> list[np.ndarray]:
    """A bar with thin teeth."""
    teeth = rng.integers(4, 7)
    pitch = 2 / (2 * teeth - 1)
    outline = [(-1.0, -1.0), (1.0, -1.0)]
    for tooth in range(teeth):
        right = 1 - 2 * tooth * pitch
        outline += [(right, 1.0), (right - pitch, 1.0), (right - pitch, -0.6)]
        if tooth < teeth - 1:
            outline.append((right - 2 * pitch, -0.6))
    outline[-1] = (-1.0, 1.0)
    return [np.array(outline) * radius * 0.85]


SHAPES = (blob, ring, star, comb)


def polar(angles: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Points ``(n, 2)`` from polar coordinates."""
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii[:, None]


def texture(rng: np.random.Generator, size: int, hue: float, saturation: float) -> np.ndarray:
    """A picture ``(size, size, 3)`` of stripes and grain around a hue in [0, 180)."""
    y, x = np.mgrid[:size, :size].astype(np.float32) / size
    angle, frequency = rng.uniform(0, np.pi), rng.uniform(15, 60)
    stripes = np.sin(frequency * (x * np.cos(angle) + y * np.sin(angle)) * 2)
    grain = cv2.GaussianBlur(rng.standard_normal((size, size), np.float32), (0, 0), 1) * 2
    value = rng.uniform(90, 190) + 28 * stripes + 14 * grain
    hsv = np.stack([np.full_like(x, hue % 180), saturation + 20 * grain, value], axis=-1)
    return cv2.cvtColor(hsv.clip(0, 255).astype(np.uint8), cv2.COLOR_HSV2BGR)


def draw(rng: np.random.Generator, size: int) -> tuple[np.ndarray, list[tuple[int, np.ndarray]]]:
    """One scene.

    Returns:
        The picture ``(size, size, 3)``, and class and visible mask ``(size, size)`` of each
        instance, from back to front.
    """
    large = size * SUPERSAMPLING
    image = texture(rng, large, rng.uniform(0, 180), saturation=50)
    instances = []
    for _ in range(rng.integers(3, 8)):
        label = int(rng.integers(1, len(CLASSES)))
        turn = rng.uniform(0, 2 * np.pi)
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        centre = rng.uniform(0.1, 0.9, 2) * large
        outlines = [
            np.round(outline @ rotation + centre).astype(np.int32)
            for outline in SHAPES[label - 1](rng, large * rng.uniform(0.1, 0.24))
        ]
        mask = np.zeros((large, large), np.uint8)
        cv2.fillPoly(mask, outlines, 1)
        hue = 45 * label + rng.normal(0, 15)
        image[mask > 0] = texture(rng, large, hue, saturation=140)[mask > 0]
        mask = shrink(mask * 255, size) > 127
        instances = [(kind, below & ~mask) for kind, below in instances]
        instances.append((label, mask))
    image = shrink(image, size).astype(float) + rng.normal(0, 6, (size, size, 3))
    visible = [(label, mask) for label, mask in instances if mask.sum() >= SMALLEST]
    return image.clip(0, 255).astype(np.uint8), visible


def shrink(image: np.ndarray, size: int) -> np.ndarray:
    """Average over the supersampled pixels."""
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)


def write_split(root: Path, split: str, count: int, size: int, seed: list[int]) -> None:
    """Write the pictures and labels of one split."""
    for kind in ('images', 'annotations'):
        (root / kind / split).mkdir(parents=True)
    images, annotations = [], []
    for index in track(range(count), description=f'{split:>10}'):
        image, instances = draw(np.random.default_rng([*seed, index]), size)
        labels = np.zeros((size, size), np.uint8)
        for label, mask in instances:
            labels[mask] = label
            rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
            annotations.append(
                {
                    'id': len(annotations) + 1,
                    'image_id': index,
                    'category_id': label,
                    'bbox': coco_mask.toBbox(rle).tolist(),
                    'area': int(mask.sum()),
                    'iscrowd': 0,
                    'segmentation': {'size': rle['size'], 'counts': rle['counts'].decode()},
                }
            )
        name = f'{index:05d}'
        images.append({'id': index, 'file_name': f'{name}.jpg', 'width': size, 'height': size})
        cv2.imwrite(str(root / f'images/{split}/{name}.jpg'), image)
        cv2.imwrite(str(root / f'annotations/{split}/{name}.png'), labels)
    categories = [{'id': i, 'name': name} for i, name in enumerate(CLASSES) if i]
    content = {'images': images, 'annotations': annotations, 'categories': categories}
    (root / f'annotations/instances_{split}.json').write_text(json.dumps(content))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='for example:\n  %(prog)s data/shapes',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('out', type=Path, help='folder to make')
    parser.add_argument('--images', type=int, default=600, help='training images (default: 600)')
    parser.add_argument('--size', type=int, default=128, help='height and width (default: 128)')
    parser.add_argument('--seed', type=int, default=0, help='decides everything (default: 0)')
    args = parser.parse_args()
    if args.images < 1 or args.size < 32 or args.seed < 0:
        parser.error('--images must be at least 1, --size at least 32, --seed at least 0')
    return args


def main() -> None:
    args = parse_args()
    if args.out.exists():
        sys.exit(f'error: {args.out} exists already; remove it or choose another folder')
    unfinished = args.out.with_name(f'{args.out.name}.unfinished')
    shutil.rmtree(unfinished, ignore_errors=True)
    write_split(unfinished, 'training', args.images, args.size, [args.seed, 0])
    write_split(unfinished, 'validation', max(1, args.images // 6), args.size, [args.seed, 1])
    unfinished.rename(args.out)
    print(f'{args.out}: {args.images} training and {max(1, args.images // 6)} validation images')


if __name__ == '__main__':
    main()
