"""Boundary AP for instance segmentation (Cheng et al., CVPR 2021, arXiv 2103.16562)."""

from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.fileio import get_local_path
from mmengine.logging import MMLogger, print_log
from prettytable import PrettyTable

from fade_mm.errors import SetupError
from fade_mm.registry import METRICS

SCORES = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')  # the first of COCO's, in its order


@METRICS.register_module()
class BoundaryAPMetric(BaseMetric):
    """COCO's mask AP where a pair overlaps by the smaller of mask IoU and boundary IoU.

    Scores are ``coco/boundary_mAP`` and so on, from 0 to 1, and -1 where nothing is to be found.
    Matching, limits and sizes are those of mmdetection's ``CocoMetric`` for ``segm_mAP``; so are
    the overlaps with crowds, which have no outline to meet.

    Args:
        ann_file: Annotations in COCO's format, with masks.
        dilation_ratio: Width of a boundary over the image's diagonal. Default: 0.02.
        num_processes: Processes that compute boundaries. More than one are worth their start with
            tens of thousands of masks. Default: 1.
        classwise, proposal_nums, iou_thrs, metric_items, backend_args, collect_device, prefix:
            As in ``CocoMetric``. ``metric_items`` are among ``SCORES``, which is the default.

    Raises:
        SetupError: an argument has no sense, or an annotation has no mask.
    """

    default_prefix = 'coco'
    better = {f'boundary_{name}': 'greater' for name in SCORES}

    def __init__(
        self,
        ann_file: str,
        dilation_ratio: float = 0.02,
        num_processes: int = 1,
        classwise: bool = False,
        proposal_nums: Sequence[int] = (100, 300, 1000),
        iou_thrs: float | Sequence[float] | None = None,
        metric_items: Sequence[str] | None = None,
        backend_args: dict | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if not find_spec('pycocotools'):
            raise SetupError('BoundaryAPMetric needs pycocotools; run: pip install pycocotools')
        from .boundary_eval import silent_coco

        if not dilation_ratio > 0:
            raise SetupError(f'dilation_ratio must be above 0, got {dilation_ratio!r}')
        if type(num_processes) is not int or num_processes < 1:
            raise SetupError(f'num_processes must be 1 or more, got {num_processes!r}')
        unknown = set(metric_items or ()).difference(SCORES)
        if unknown:
            raise SetupError(f'metric_items are {", ".join(SCORES)}; got {", ".join(unknown)}')
        self.ann_file = ann_file
        self.dilation_ratio = dilation_ratio
        self.num_processes = num_processes
        self.classwise = classwise
        self.proposal_nums = list(proposal_nums)
        self.iou_thrs = iou_thrs
        self.metric_items = SCORES if metric_items is None else metric_items
        with get_local_path(ann_file, backend_args=backend_args) as path:
            self.truth = silent_coco(path)
        for annotation in self.truth.dataset.get('annotations', ()):
            if not annotation.get('segmentation'):
                raise SetupError(
                    f'{ann_file}: annotation {annotation["id"]} has no mask (segmentation), and '
                    'BoundaryAPMetric measures masks; leave it out of the evaluator'
                )

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep the predictions of one batch, with masks as RLE.

        Args:
            data_batch: Unused.
            data_samples: Samples with ``img_id``, and in ``pred_instances`` with ``labels`` and
                ``scores`` ``(n,)``, or ``mask_scores`` in their place, and ``masks``
                ``(n, h, w)``, or a list of RLEs.
        """
        for sample in data_samples:
            found = sample['pred_instances']
            if 'masks' not in found:
                raise SetupError(
                    'the model predicts no masks, and BoundaryAPMetric measures masks; leave it '
                    'out of the evaluator'
                )
            from pycocotools import mask as coder

            masks = found['masks']
            if not isinstance(masks, list | tuple):
                masks = masks.detach().cpu().numpy().astype(np.uint8)
                masks = coder.encode(np.asfortranarray(masks.transpose(1, 2, 0)))
            scores = found['mask_scores' if 'mask_scores' in found else 'scores']
            self.results.append(
                (sample['img_id'], found['labels'].tolist(), scores.tolist(), masks)
            )

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        """The scores from the predictions for all images."""
        from .boundary_eval import BoundaryEval, silent_coco

        predictions = silent_coco(dict(self.truth.dataset, annotations=self._predictions(results)))
        evaluation = BoundaryEval(self.truth, predictions, self.dilation_ratio, self.num_processes)
        evaluation.params.catIds = self._categories()
        evaluation.params.imgIds = self.truth.getImgIds()
        evaluation.params.maxDets = self.proposal_nums
        if self.iou_thrs is not None:
            evaluation.params.iouThrs = np.atleast_1d(self.iou_thrs)
        found = dict(zip(SCORES, evaluation.run(), strict=False))
        scores = {f'boundary_{x}': round(float(found[x]), 4) for x in self.metric_items}
        table = PrettyTable(['boundary', *self.metric_items])
        table.add_row(['all', *scores.values()])
        if self.classwise:
            precision = evaluation.eval['precision']
            for index, category in enumerate(evaluation.params.catIds):
                name = self.truth.cats[category]['name']
                known = precision[:, :, index, 0, -1]
                known = known[known > -1]
                value = round(float(known.mean()), 4) if known.size else float('nan')
                scores[f'{name}_boundary_precision'] = value
                table.add_row([name, value, *[''] * (len(self.metric_items) - 1)])
        print_log(f'boundary AP:\n{table}', logger=MMLogger.get_current_instance())
        return scores

    def _categories(self) -> list[int]:
        """The categories that labels are indices of: as in mmdetection, in the file's order."""
        classes = self.dataset_meta['classes']
        categories = self.truth.getCatIds(catNms=list(classes))
        if len(categories) != len(classes):
            named = ', '.join(x['name'] for x in self.truth.cats.values())
            raise SetupError(
                f'{self.ann_file} has the categories ({named}), the data set the classes '
                f'({", ".join(classes)}); give both the same names'
            )
        return categories

    def _predictions(self, results: list[tuple]) -> list[dict]:
        """What was found as COCO has it, with areas of the masks."""
        from pycocotools import mask as coder

        categories = self._categories()
        annotations = []
        for image, labels, scores, masks in results:
            if image not in self.truth.imgs:
                raise SetupError(
                    f'{self.ann_file} has no image of id {image}; give the evaluator the '
                    "data set's own ann_file"
                )
            for label, score, mask in zip(labels, scores, masks, strict=True):
                annotations.append(
                    dict(
                        id=len(annotations) + 1,
                        image_id=image,
                        category_id=categories[label],
                        segmentation=mask,
                        score=score,
                        area=float(coder.area(mask)),  # pycocotools counts no more than 255 at once
                        iscrowd=0,
                    )
                )
        return annotations
