"""Time of boundary AP on an annotation file, with each object found a pixel beside its place."""

import argparse
import time
import warnings

warnings.filterwarnings('ignore')

import numpy as np
from pycocotools import mask as coder

from fade_mm import run
from fade_mm.metrics import BoundaryAPMetric
from fade_mm.metrics.boundary_eval import silent_coco


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = run.ToolParser(__doc__, 'data/mine/val.json')
    parser.add_argument('ann_file', help="annotations with masks, in COCO's format")
    parser.add_argument('--num-processes', type=int, default=1, help='of the metric')
    parser.add_argument('--repeat', type=int, default=1, help='take the images so many times')
    return parser.parse_args()


def repeated(metric: BoundaryAPMetric, times: int) -> None:
    """Let the images and annotations of a metric be so many times as many."""
    stride = 10**12  # above all ids of a file
    content = metric.truth.dataset
    images, annotations = content['images'], content['annotations']
    content['images'], content['annotations'] = [], []
    for shift in range(0, times * stride, stride):
        content['images'] += [dict(x, id=x['id'] + shift) for x in images]
        content['annotations'] += [
            dict(x, id=x['id'] + shift, image_id=x['image_id'] + shift) for x in annotations
        ]
    metric.truth = silent_coco(content)


def main() -> None:
    args = parse_args()
    metric = BoundaryAPMetric(args.ann_file, num_processes=args.num_processes)
    if args.repeat > 1:
        repeated(metric, args.repeat)
    categories = metric.truth.getCatIds()
    metric.dataset_meta = dict(classes=[metric.truth.cats[x]['name'] for x in categories])
    for image, annotations in list(metric.truth.imgToAnns.items()):
        masks = [np.roll(metric.truth.annToMask(x), 1, axis=1) for x in annotations]
        labels = [categories.index(x['category_id']) for x in annotations]
        coded = [coder.encode(np.asfortranarray(mask)) for mask in masks]
        scores = np.linspace(1, 0.1, len(coded)).tolist()
        metric.results.append((image, labels, scores, coded))
    start = time.perf_counter()
    metric.evaluate(len(metric.truth.imgs))
    seconds = time.perf_counter() - start
    count = len(metric.truth.anns)
    print(
        f'{len(metric.truth.imgs)} images, {count} objects and as many predictions, '
        f'{args.num_processes} processes: {seconds:.1f} s, {1000 * seconds / count:.2f} s for 1000'
    )


if __name__ == '__main__':
    run.run_tool(main)
