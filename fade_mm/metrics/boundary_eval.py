"""COCO's evaluation of instance masks by their boundaries, too; needs pycocotools."""

import io
import multiprocessing
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from functools import partial
from itertools import islice

import numpy as np
from pycocotools import mask as coder
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from .boundary_iou import boundary_band


class BoundaryEval(COCOeval):
    """COCO's evaluation of masks by the smaller of mask IoU and boundary IoU.

    Args:
        truth: What is to be found.
        predictions: What was found, with masks as RLE.
        dilation_ratio: Width of a boundary over the image's diagonal.
        num_processes: Processes that compute boundaries.
    """

    def __init__(
        self, truth: COCO, predictions: COCO, dilation_ratio: float, num_processes: int
    ) -> None:
        super().__init__(truth, predictions, 'segm')
        self.dilation_ratio = dilation_ratio
        self.num_processes = num_processes

    def run(self) -> np.ndarray:
        """COCO's twelve scores."""
        with redirect_stdout(io.StringIO()):
            self.evaluate()
            self.accumulate()
            self.summarize()
        return self.stats

    def computeIoU(self, imgId: int, catId: int) -> np.ndarray | list:
        """The overlaps of a category's predictions, best first, and truths in an image."""
        key = imgId, catId
        return self.overlaps[key] if key in self.overlaps else super().computeIoU(imgId, catId)

    def _prepare(self) -> None:
        """Collect the masks, and compute the overlaps of those that can match.

        A pair whose masks overlap by less than each threshold matches none, whatever its
        boundaries: these are never computed.
        """
        super()._prepare()
        self.overlaps = {}
        lowest = min(*self.params.iouThrs, 1 - 1e-10)  # as COCO compares
        masks, near = [], []
        for key in [key for key in self._dts if key in self._gts]:
            found, truth = self._dts[key], self._gts[key]
            found.sort(key=lambda x: -x['score'])
            del found[self.params.maxDets[-1] :]
            overlaps = self.overlaps[key] = super().computeIoU(*key)
            fits = (overlaps >= lowest) & ~np.array([bool(x['iscrowd']) for x in truth])
            rows, columns = (np.flatnonzero(fits.any(axis)) for axis in (1, 0))
            if len(rows):
                near.append((overlaps, rows, columns))
                masks += [found[i]['segmentation'] for i in rows]
                masks += [truth[i]['segmentation'] for i in columns]
        boundaries = iter(self._boundaries(masks))
        for overlaps, rows, columns in near:
            found, truth = (list(islice(boundaries, len(x))) for x in (rows, columns))
            pairs = np.ix_(rows, columns)
            of_boundaries = coder.iou(found, truth, [0] * len(truth))
            overlaps[pairs] = np.minimum(overlaps[pairs], of_boundaries)

    def _boundaries(self, masks: Sequence[dict]) -> Iterable[dict]:
        boundary = partial(boundary_of, dilation_ratio=self.dilation_ratio)
        if self.num_processes == 1:
            return map(boundary, masks)
        # Started anew: a copy of a process with a GPU or threads may hang.
        context = multiprocessing.get_context('spawn')
        with ProcessPoolExecutor(self.num_processes, context) as pool:
            return list(pool.map(boundary, masks, chunksize=256))


def boundary_of(mask: dict, dilation_ratio: float = 0.02) -> dict:
    """The part of a mask within some distance of its outline, or of the image's frame.

    Args:
        mask: As RLE.
        dilation_ratio: The distance over the image's diagonal; at least a pixel. Default: 0.02.

    Returns:
        The part as RLE; all of a mask that is nowhere wider than twice the distance.
    """
    width = max(1, round(dilation_ratio * np.hypot(*mask['size'])))
    x, y, w, h = coder.toBbox(mask).astype(int)
    if min(w, h) <= 2 * width:
        return mask
    columns = coder.decode(mask).T  # as RLE has them: one after the other
    box = columns[x : x + w, y : y + h]
    box[:] = boundary_band(box, width)
    return coder.encode(columns.T)


def silent_coco(source: str | dict) -> COCO:
    """An annotation file, or the content of one, read without a word.

    Args:
        source: The file's path, or the content.
    """
    with redirect_stdout(io.StringIO()):
        if isinstance(source, str):
            return COCO(source)
        coco = COCO()
        coco.dataset = source
        coco.createIndex()
    return coco
