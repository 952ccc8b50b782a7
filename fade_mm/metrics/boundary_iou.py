"""Boundary IoU for semantic segmentation (Cheng et al., CVPR 2021, arXiv 2103.16562)."""

from collections.abc import Sequence

import cv2
import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger, print_log
from prettytable import PrettyTable

from fade_mm.registry import METRICS


@METRICS.register_module()
class BoundaryIoUMetric(BaseMetric):
    """Mean over the classes of the IoU of inner boundary bands, as ``mBIoU`` in percent.

    Intersections and unions are summed over the data set, class by class; classes that occur
    neither in a prediction nor in a label do not count. Pixels labelled ``ignore_index`` are
    background in both masks.

    Args:
        ignore_index: Label of the pixels to ignore. Default: 255.
        dilation_ratio: Width of the band over the image's diagonal. Default: 0.02.
        collect_device, prefix: As in mmengine's ``BaseMetric``.
    """

    better = {'mBIoU': 'greater'}

    def __init__(
        self,
        ignore_index: int = 255,
        dilation_ratio: float = 0.02,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.ignore_index = ignore_index
        self.dilation_ratio = dilation_ratio

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Measure the samples of one batch.

        Args:
            data_batch: Unused.
            data_samples: Samples with label maps ``(1, h, w)`` in ``pred_sem_seg`` and
                ``gt_sem_seg``.
        """
        classes = len(self.dataset_meta['classes'])
        for sample in data_samples:
            if 'gt_sem_seg' not in sample:
                raise ValueError(
                    f'{sample.get("img_path", "a sample")} has no label to measure against; leave '
                    'BoundaryIoUMetric out of the evaluator'
                )
            pred, truth = (
                sample[name]['data'].squeeze(0).cpu().numpy().astype(np.int64)  # or 0.0 and 1.0
                for name in ('pred_sem_seg', 'gt_sem_seg')
            )
            ignored = truth == self.ignore_index
            pred, truth = (np.where(ignored, classes, labels) for labels in (pred, truth))
            self.results.append(boundary_areas(pred, truth, classes, self.dilation_ratio))

    def compute_metrics(self, results: list[np.ndarray]) -> dict[str, float]:
        """The metric from the areas of all samples; logs a table with a row per class."""
        intersection, union = np.sum(results, axis=0)
        occurs = union > 0
        iou = np.full(len(union), np.nan)
        iou[occurs] = 100 * intersection[occurs] / union[occurs]
        table = PrettyTable()
        table.add_column('Class', self.dataset_meta['classes'])
        table.add_column('BIoU', iou.round(2))
        print_log(f'per class results:\n{table}', logger=MMLogger.get_current_instance())
        return {'mBIoU': float(np.round(np.nanmean(iou), 2)) if occurs.any() else float('nan')}


def boundary_areas(
    pred: np.ndarray, truth: np.ndarray, classes: int, dilation_ratio: float = 0.02
) -> np.ndarray:
    """Areas of intersection and union of the boundary bands of two label maps.

    Args:
        pred: Predicted labels ``(h, w)``.
        truth: True labels ``(h, w)``. Labels from ``classes`` upwards belong to no class.
        classes: Number of classes.
        dilation_ratio: Width of the band over the diagonal. Default: 0.02.

    Returns:
        Pixel counts ``(2, classes)``: intersections, unions.
    """
    width = max(1, round(dilation_ratio * np.hypot(*truth.shape)))
    areas = np.zeros((2, classes), dtype=np.int64)
    for label in np.union1d(pred, truth):
        if label < classes:
            a, b = boundary_band(pred == label, width), boundary_band(truth == label, width)
            areas[:, label] = np.count_nonzero(a & b), np.count_nonzero(a | b)
    return areas


def boundary_band(mask: np.ndarray, width: int) -> np.ndarray:
    """The mask minus its 3x3 erosion repeated ``width`` times; outside the frame is background.

    Args:
        mask: Boolean mask ``(h, w)``.
        width: Width of the band in pixels.
    """
    mask = mask.astype(np.uint8)
    eroded = cv2.erode(
        mask,
        np.ones((3, 3), np.uint8),
        iterations=width,
        borderType=cv2.BORDER_CONSTANT,
        borderValue=0,
    )
    return (mask - eroded).astype(bool)
