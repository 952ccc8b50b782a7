"""A picture of the masks that models of instance segmentation predict.

Each row is a picture of the test set: itself, its true masks, and what each model predicts with a
score of at least --score, outlined. Green masks match a true one of their class with an IoU of at
least --iou, as COCO's metric matches them; red ones match none; yellow are the true masks that none
matches. The caption says how many are green, how many true masks there are, and how many are red;
what lies in a crowd is left out. The pictures are spread evenly over the set, unless --pictures
names others.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

warnings.filterwarnings('ignore', message='pkg_resources is deprecated')

import cv2
import numpy as np
from mmengine.config import Config
from pycocotools import mask as coco
from torch import nn

from fade_mm import run
from fade_mm.hosts import host_of
from fade_mm.run.side_by_side import (
    ShownPictures,
    SideBySideParser,
    captioned,
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
            f'{cfg.filename} is of {task or "no known task"}, not of instance segmentation'
        )


@dataclass
class Masks:
    """Masks ``(N, h, w)``, uint8, and their classes ``(N,)``."""

    masks: np.ndarray
    labels: np.ndarray

    def __getitem__(self, chosen: np.ndarray) -> 'Masks':
        return Masks(self.masks[chosen], self.labels[chosen])

    def __len__(self) -> int:
        return len(self.masks)


def predictions_of(model: nn.Module, sample: dict, score: float) -> Masks:
    """What a model predicts with a score of at least that, the best first."""
    found = predicted(model, sample).pred_instances.cpu()
    if 'masks' not in found:
        raise run.SetupError(f'{type(model).__name__} predicts no masks')
    found = found[found.scores >= score]
    ranks = found.get('mask_scores', found.scores)  # as the metric takes them
    found = found[ranks.argsort(descending=True, stable=True)]
    return Masks(found.masks.numpy().astype(np.uint8), found.labels.numpy())


def matched(pred: Masks, truth: Masks, crowds: Masks, iou: float) -> tuple[np.ndarray, ...]:
    """Which masks match which, as COCO's metric decides: the best first, each true one once.

    Args:
        pred: Predicted ones, the best first.
        truth: True ones.
        crowds: Those of groups: what lies there is neither right nor wrong.
        iou: What it takes to match.

    Returns:
        Whether each predicted mask matches, whether it counts at all, and whether each true one is
        matched.
    """
    is_crowd = [0] * len(truth) + [1] * len(crowds)
    ious = coco.iou(_encoded(pred), _encoded(truth) + _encoded(crowds), is_crowd)
    ious = np.reshape(ious, (len(pred), len(is_crowd)))
    ious[pred.labels[:, None] != np.concatenate([truth.labels, crowds.labels])] = 0
    matches, counts = np.zeros(len(pred), bool), np.ones(len(pred), bool)
    found = np.zeros(len(truth), bool)
    for i, row in enumerate(ious):
        free = np.where(found, -1, row[: len(truth)])
        if free.size and free.max() >= iou:
            matches[i] = found[free.argmax()] = True
        else:
            counts[i] = not (row[len(truth) :] >= iou).any()
    return matches, counts, found


def _encoded(found: Masks) -> list[dict]:
    return [coco.encode(np.asfortranarray(mask)) for mask in found.masks]


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


def judged(
    name: str, picture: np.ndarray, pred: Masks, truth: Masks, crowds: Masks, iou: float, zoom: int
) -> np.ndarray:
    """A picture with what a model predicted for it, outlined by whether it is right."""
    matches, counts, found = matched(pred, truth, crowds, iou)
    right, wrong = pred.masks[matches], pred.masks[~matches & counts]
    groups = [(truth.masks[~found], YELLOW), (wrong, RED), (right, GREEN)]
    text = f'{name}: {len(right)} of {len(truth)}, {len(wrong)} wrong'
    return captioned(outlined(picture, groups, zoom), text)


def main() -> None:
    parser = SideBySideParser(__doc__)
    parser.add_argument('--score', type=float, default=0.5, help='least score (default: 0.5)')
    parser.add_argument('--iou', type=float, default=0.75, help='that matches (default: 0.75)')
    parser.add_argument('--zoom', type=int, default=1, help='enlarge by this factor (default: 1)')
    parser.add_argument('--stretch', action='store_true', help='stretch the contrast of pictures')
    args = parser.parse_args()
    if args.zoom < 1 or not 0 < args.iou <= 1:
        parser.error('--zoom must be at least 1, and --iou above 0 and at most 1')
    rows, pictures = [], ShownPictures(args.pictures, args.rows)
    for name, cfg, model in models_of(args, check_task):
        dataset = test_set_of(cfg)
        paths = [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
        for place, index in enumerate(pictures.of(cfg, paths)):
            picture, *every, is_crowd = host_of(cfg).true_masks(dataset, index)
            truth, crowds = Masks(*every)[~is_crowd], Masks(*every)[is_crowd]
            if args.stretch:
                picture = cv2.normalize(picture, None, 0, 255, cv2.NORM_MINMAX)
            if place == len(rows):
                outlines = outlined(picture, [(truth.masks, YELLOW)], args.zoom)
                tiles = [captioned(enlarged(picture, args.zoom), Path(paths[index]).stem)]
                rows.append([*tiles, captioned(outlines, f'truth: {len(truth)}')])
            pred = predictions_of(model, dataset[index], args.score)
            tile = judged(name, picture, pred, truth, crowds, args.iou, args.zoom)
            rows[place].append(tile)
    write_rows(rows, args.out)


if __name__ == '__main__':
    run.run_tool(main)
