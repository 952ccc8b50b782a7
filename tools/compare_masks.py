"""A picture of the masks that models of instance segmentation predict.

Each row is a picture of the test set: itself, its true masks, and what each model predicts with a
score of at least --score, outlined. Green masks match a true one with an IoU of at least --iou, as
COCO's metric matches them; red ones match none; yellow are the true masks that none matches. The
line above counts green among true masks, and red. The pictures are spread evenly over the set,
unless --pictures names others.
"""

import warnings
from pathlib import Path

warnings.filterwarnings('ignore', message='pkg_resources is deprecated')

import cv2
import numpy as np
from mmengine.config import Config
from pycocotools import mask as coco

from fade_mm import run
from fade_mm.hosts import host_of
from fade_mm.run.side_by_side import (
    SideBySideParser,
    captioned,
    chosen,
    models_of,
    predicted,
    test_set_of,
    write_rows,
)

GREEN, RED, YELLOW = (80, 220, 60), (60, 60, 255), (0, 220, 255)  # blue, green, red


def check_task(cfg: Config) -> None:
    """Raise where a config is not of instance segmentation."""
    task = host_of(cfg).task_of(cfg)
    if task != 'instance':
        raise run.SetupError(
            f'{cfg.filename} is of {task}, not of instance segmentation: its test_evaluator has no '
            "CocoMetric with metric='segm'"
        )


def matched(masks: np.ndarray, truth: np.ndarray, crowds: np.ndarray, iou: float) -> tuple:
    """Which masks match which, as COCO's metric decides: the best first, each true one once.

    Args:
        masks: Predicted ones ``(N, h, w)``, uint8, the best first.
        truth: True ones ``(M, h, w)``, uint8.
        crowds: Of groups ``(C, h, w)``, uint8: what lies there is neither right nor wrong.
        iou: What it takes to match.

    Returns:
        Whether each mask matches, whether it counts at all, and whether each true one is matched.
    """
    every = _encoded(np.concatenate([truth, crowds]))
    is_crowd = np.arange(len(every)) >= len(truth)
    ious = coco.iou(_encoded(masks), every, is_crowd.astype(np.uint8))
    ious = np.reshape(ious, (len(masks), len(every)))
    matches, counts = np.zeros(len(masks), bool), np.ones(len(masks), bool)
    found = np.zeros(len(truth), bool)
    for i, row in enumerate(ious):
        free = np.where(found, -1, row[: len(truth)])
        if free.size and free.max() >= iou:
            matches[i] = found[free.argmax()] = True
        else:
            counts[i] = not (row[len(truth) :] >= iou).any()
    return matches, counts, found


def _encoded(masks: np.ndarray) -> list[dict]:
    return coco.encode(np.asfortranarray(masks.transpose(1, 2, 0))) if len(masks) else []


def outlined(picture: np.ndarray, groups: list[tuple[np.ndarray, tuple]], zoom: int) -> np.ndarray:
    """A picture, enlarged, with the outlines of masks ``(N, h, w)`` in colours."""
    drawn = enlarged(picture, zoom)
    for masks, colour in groups:
        for mask in masks:
            found = cv2.findContours(enlarged(mask, zoom), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)[0]
            cv2.drawContours(drawn, found, -1, colour, 1)
    return drawn


def enlarged(picture: np.ndarray, zoom: int) -> np.ndarray:
    """Each point as ``zoom`` by ``zoom`` points."""
    return picture.repeat(zoom, axis=0).repeat(zoom, axis=1)


def main() -> None:
    parser = SideBySideParser(__doc__)
    parser.add_argument('--score', type=float, default=0.5, help='least score (default: 0.5)')
    parser.add_argument('--iou', type=float, default=0.75, help='that matches (default: 0.75)')
    parser.add_argument('--zoom', type=int, default=1, help='enlarge by this factor (default: 1)')
    parser.add_argument('--stretch', action='store_true', help='stretch the contrast of pictures')
    args = parser.parse_args()
    if args.zoom < 1 or not 0 < args.iou <= 1:
        parser.error('--zoom must be positive, and --iou within 0 and 1')
    rows = []
    for name, cfg, model in models_of(args, check_task):
        dataset = test_set_of(cfg)
        paths = [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
        stems = [Path(path).stem for path in paths]
        for place, index in enumerate(chosen(stems, args.pictures, args.rows)):
            result = predicted(model, dataset[index])
            picture = cv2.imread(paths[index])
            if args.stretch:
                picture = cv2.normalize(picture, None, 0, 255, cv2.NORM_MINMAX)
            truth, crowds = (
                result.get(key).masks.to_ndarray().astype(np.uint8)
                for key in ('gt_instances', 'ignored_instances')
            )
            if truth.shape[1:] != picture.shape[:2]:
                raise run.SetupError(
                    f'the true masks of {stems[index]} are of {truth.shape[2]}x{truth.shape[1]} '
                    f'pixels and the picture of {picture.shape[1]}x{picture.shape[0]}; in the '
                    'test pipeline, LoadAnnotations must come after Resize'
                )
            if place == len(rows):
                shown = outlined(picture, [(truth, YELLOW)], args.zoom)
                tiles = [captioned(enlarged(picture, args.zoom), stems[index])]
                rows.append([*tiles, captioned(shown, f'truth: {len(truth)}')])
            kept = result.pred_instances.cpu()
            kept = kept[kept.scores >= args.score]
            kept = kept[kept.scores.argsort(descending=True)]
            masks = kept.masks.numpy().astype(np.uint8)
            matches, counts, found = matched(masks, truth, crowds, args.iou)
            wrong = masks[~matches & counts]
            groups = [(truth[~found], YELLOW), (wrong, RED), (masks[matches], GREEN)]
            text = f'{name}: {matches.sum()} of {len(truth)}, {len(wrong)} wrong'
            rows[place].append(captioned(outlined(picture, groups, args.zoom), text))
    write_rows(rows, args.out)


if __name__ == '__main__':
    run.run_tool(main)
