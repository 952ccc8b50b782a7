"""mmdetection: boxes, instance and panoptic masks."""

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import nn

from fade_mm.errors import SetupError, counted, first_of
from fade_mm.hosts.backbones import transformer_of
from fade_mm.hosts.base import Host, heads_at, in_scope_of
from fade_mm.hosts.configs import check_pickle, dicts, metrics_of, test_sets, type_name
from fade_mm.hosts.orientation import turned
from fade_mm.hosts.traced import SinglePass
from fade_mm.registry import HOSTS

from .sizes import size_of

_PANOPTIC = ('CocoPanopticMetric', 'LoadPanopticAnnotations')
_OF_MASK_AP = ('ann_file', 'proposal_nums', 'iou_thrs', 'backend_args', 'collect_device', 'prefix')
# Others propose regions, track, identify, or predict stuff beside things.
_HEADS = {'bbox_head', 'mask_head', 'panoptic_head', 'point_head', 'query_head'}


@HOSTS.register_module()
class MMDetHost(Host):
    """Detection with mmdetection."""

    library = packages = 'mmdet'
    models = (
        'mmdet.models.detectors.base.BaseDetector',
        'mmdet.models.mot.base.BaseMOTModel',
        'mmdet.models.reid.base_reid.BaseReID',
    )
    stand_ins = {
        'CSPNeXtPAFPN': 'csp_pafpn',
        'FPN': 'fpn',
        'FPN_CARAFE': 'fpn_carafe',
        'MSDeformAttnPixelDecoder': 'msdeformattn_pixel_decoder',
        'PAFPN': 'pafpn',
        'PixelDecoder': 'pixel_decoder',
        'TransformerEncoderPixelDecoder': 'pixel_decoder',
        'YOLOXPAFPN': 'csp_pafpn',
    }
    task = 'detection'
    names = {
        'FasterRCNN': 'Faster R-CNN',
        'MaskRCNN': 'Mask R-CNN',
        'PanopticFPN': 'Panoptic FPN',
        'RetinaNet': 'RetinaNet',
    }

    def add_metrics(self, cfg: dict) -> None:
        """Boundary AP beside mask AP, with the same arguments but for those in ``boundary_ap``.

        Where it is there already, as in a run's copy of its config, those are changed.
        """
        asked = cfg.get('boundary_ap')
        if not asked:
            return
        more = asked if isinstance(asked, dict) else {}
        for place in ('val_evaluator', 'test_evaluator'):
            metrics = metrics_of(cfg, place) if cfg.get(place) else []
            of_masks = [x for x in metrics if 'segm' in (x.get('metric') or ())]
            if metrics and not of_masks:
                raise SetupError(
                    f'boundary_ap needs a CocoMetric of masks in {place}, to measure beside it; '
                    "give it metric=['bbox', 'segm'], or leave boundary_ap out"
                )
            known = [x for x in metrics if type_name(x) == 'BoundaryAPMetric']
            for metric in known:
                metric.update(more)
            for metric in [] if known else of_masks:
                shared = {name: metric[name] for name in _OF_MASK_AP if name in metric}
                metrics.append(dict(shared, type='fade_mm.BoundaryAPMetric', **more))

    def check_run(self, cfg: dict) -> None:
        names = {type_name(node) for node in dicts(cfg._cfg_dict)}
        needing = sorted(names.intersection(_PANOPTIC))
        if needing and not importlib.util.find_spec('panopticapi'):
            raise SetupError(
                f'the config has {" and ".join(needing)}, for which mmdetection needs the package '
                'panopticapi; it is not on PyPI, run: '
                'pip install git+https://github.com/cocodataset/panopticapi.git'
            )

    def task_of(self, cfg: dict) -> str | None:
        for node in dicts(cfg.get('val_evaluator') or cfg.get('test_evaluator')):
            if type_name(node) == 'CocoPanopticMetric':
                return 'panoptic'
            if type_name(node) == 'CocoMetric':
                return 'instance' if 'segm' in (node.get('metric') or ()) else self.task
            if type_name(node) == 'BoundaryAPMetric':
                return 'instance'
        return None

    def name_of(self, model: dict) -> str | None:
        """The name of a model with its backbone or size, and its neck where another is usual."""
        kind, size = type_name(model), size_of(model.get('backbone') or {})
        if size and kind in ('RTMDet', 'YOLOX'):
            has_masks = type_name(model.get('bbox_head')).startswith('RTMDetIns')
            return f'{kind}-Ins-{size}' if has_masks else f'{kind}-{size}'
        name = super().name_of(model)
        neck = type_name(model.get('neck'))
        return f'{name} {neck}' if name and neck in ('FPN_CARAFE', 'PAFPN') else name

    def backbone_of(self, backbone: dict) -> str | None:
        return super().backbone_of(backbone) or transformer_of(backbone)

    def true_masks(self, dataset, index: int) -> tuple[np.ndarray, ...]:
        from mmcv.transforms import LoadImageFromFile
        from mmdet.datasets.transforms import LoadAnnotations

        info = dataset.get_data_info(index)
        if not all('mask' in x for x in info.get('instances', ())):
            raise SetupError(f'the test set has no masks for {info["img_path"]}')
        loads = (x for x in dataset.pipeline.transforms if isinstance(x, LoadImageFromFile))
        load = next(loads, LoadImageFromFile())
        found = LoadAnnotations(with_bbox=True, with_mask=True)(load(info))
        picture = torch.from_numpy(np.atleast_3d(found['img'])).permute(2, 0, 1)
        return (
            self.picture_of(dict(inputs=picture)),
            found['gt_masks'].to_ndarray().astype(np.uint8),
            np.array(found['gt_bboxes_labels'], int),
            np.array(found['gt_ignore_flags'], bool),
        )

    def class_heads(self, model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        if hasattr(model, 'language_model'):  # class names are given to it as text
            return
        for name, _, head in heads_at(model, _HEADS):
            if not getattr(head, 'class_agnostic', False) and 'RPN' not in type(head).__name__:
                yield name, head

    def labels_are_classes(self, dataset) -> bool:
        sample = dataset.get_data_info(0)
        if 'text' in sample or 'thing_classes' in dataset.metainfo:
            return False
        return 'instances' in sample

    def noting_names(self, place: str) -> AbstractContextManager:
        from mmdet.datasets import CocoDataset

        noted = NotedNames(CocoDataset.COCOAPI, place)
        return mock.patch.object(CocoDataset, 'COCOAPI', noted)

    def check_dataset(self, dataset, place: str) -> None:
        in_file = getattr(dataset, 'names_in_file', None)
        classes = list(dataset.metainfo.get('classes') or ())
        if in_file is None or [in_file[x] for x in dataset.cat_ids] == classes:
            return
        right = [name for name in in_file.values() if name in classes]
        if set(right) != set(classes):
            right = in_file.values()
        raise SetupError(
            f'{place}: metainfo.classes is ({", ".join(classes)}), but {dataset.ann_file} has '
            f'({", ".join(in_file.values())}); labels are numbered in the order of the file, and '
            f'each class must be there. Write {place}.dataset.metainfo=dict(classes={(*right,)}), '
            'or, if that is as it should be, check_classes=False'
        )

    def check_sample(self, sample: dict, result: dict, dataset) -> None:
        packed = result.get('data_samples') if isinstance(result, dict) else None
        shape = getattr(packed, 'metainfo', {}).get('ori_shape')
        expected = sample.get('height'), sample.get('width')
        if shape and None not in expected and tuple(shape[:2]) != expected:
            raise SetupError(
                f'{sample["img_path"]} has {shape[0]} rows and {shape[1]} columns, its annotations '
                f'are for {expected[0]} and {expected[1]}{turned(sample["img_path"])}'
            )

    def keep_predictions(self, cfg: dict, path: str) -> None:
        check_pickle(path)
        metrics_of(cfg).append(dict(type='mmdet.DumpDetResults', out_file_path=path))

    def augment(self, cfg: dict) -> None:
        if 'mask_head' in cfg.model.get('roi_head', {}) or 'mask_head' in cfg.model:
            raise SetupError('--tta merges boxes only, and this model predicts masks; leave it out')
        nms = dict(type='nms', iou_threshold=0.5)
        cfg.setdefault(  # mmdetection keeps this model in mmengine's own registry
            'tta_model', dict(type='DetTTAModel', tta_cfg=dict(nms=nms, max_per_img=100))
        )
        if 'tta_pipeline' not in cfg:
            flips = [dict(type='mmdet.RandomFlip', prob=prob) for prob in (1.0, 0.0)]
            keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
            pack = dict(type='mmdet.PackDetInputs', meta_keys=(*keys, 'flip', 'flip_direction'))
            cfg.tta_pipeline = [
                *test_sets(cfg)[0].pipeline[:-1],
                dict(type='TestTimeAug', transforms=[flips, [pack]]),
            ]
        super().augment(cfg)

    def predict(self, model: nn.Module, path: Path):
        from mmdet.apis import inference_detector

        with in_scope_of(model.cfg):
            return inference_detector(model, str(path))

    def drawn(self, model: nn.Module, picture: np.ndarray, prediction) -> dict[str, np.ndarray]:
        return super().drawn(model, picture, prediction.cpu())

    def dataset_meta(self, cfg: dict, checkpoint: dict) -> dict:
        meta = super().dataset_meta(cfg, checkpoint)
        return {**meta, 'palette': meta.get('palette') or 'random'}

    def input_size(self, cfg: dict) -> tuple[int, int]:
        """mmdetection's usual size."""
        return 800, 1280

    def channels(self, model: nn.Module) -> int:
        """Those of the first convolution, which YOLO's Focus gives four for each."""
        from mmdet.models.backbones.csp_darknet import Focus

        folded = any(isinstance(m, Focus) for m in model.modules())
        return super().channels(model) // (4 if folded else 1)

    def single_pass(
        self, model: nn.Module, shape: tuple[int, int], mode: str = 'tensor'
    ) -> SinglePass:
        from .single_pass import DetectorPass

        return DetectorPass(model, shape, mode)


class NotedNames:
    """In the place of a data set's reader of annotation files: notes the names of categories.

    Args:
        read: The reader.
        place: The key of the data loader, for messages.
    """

    def __init__(self, read: Callable, place: str) -> None:
        self.read = read
        self.place = place

    def __get__(self, dataset, owner: type) -> Callable:
        def noting(path: str):
            coco = self.read(path)
            names = dataset.names_in_file = {key: x['name'] for key, x in coco.cats.items()}
            classes = dataset.metainfo.get('classes') or ()
            if classes:
                self.check(coco, names, classes, path)
            return coco

        return self.read if dataset is None else noting

    def check(self, coco, names: dict[int, str], classes: Sequence[str], path: str) -> None:
        """Raise where objects would be left out, which is done in silence.

        Args:
            coco: The file as it is read.
            names: Of its categories, by their numbers.
            classes: Those that the data set is to have.
            path: The file.
        """
        if not names:
            raise SetupError(
                f'{self.place}: {path} has no categories; give it "categories": '
                '[{"id": 1, "name": ...}, ...], which annotations refer to by category_id'
            )
        asked = [x.get('category_id') for x in coco.anns.values()]
        unknown = [x for x in dict.fromkeys(asked) if x not in names]
        if unknown:
            raise SetupError(
                f'{self.place}: {path} has '
                f'{counted(sum(x in unknown for x in asked), "annotation")} with '
                f'category_id {", ".join(map(str, unknown[:5]))}, and no category of that id; it '
                f'has {", ".join(f"{key} ({name})" for key, name in list(names.items())[:5])}. '
                'If they may be left out, check_classes=False'
            )
        if not set(classes).intersection(names.values()):
            raise SetupError(
                f'{self.place}: {path} has ({", ".join(names.values())}), and none of '
                f'metainfo.classes, {first_of(classes)}. Write '
                f'{self.place}.dataset.metainfo=dict(classes={(*names.values(),)}), or, if '
                'that is as it should be, check_classes=False'
            )
