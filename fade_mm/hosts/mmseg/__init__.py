"""mmsegmentation: semantic segmentation."""

import inspect
import os
from collections.abc import Iterator
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.visualization import Visualizer
from torch import Tensor, nn

from fade_mm.errors import SetupError, counted
from fade_mm.hosts.backbones import transformer_of
from fade_mm.hosts.base import Host, heads_at, in_scope_of
from fade_mm.hosts.configs import dicts, metrics_of, type_name
from fade_mm.hosts.traced import Exported, SinglePass
from fade_mm.registry import HOSTS


@HOSTS.register_module()
class MMSegHost(Host):
    """Semantic segmentation with mmsegmentation."""

    library = 'mmseg'
    packages = 'mmsegmentation ftfy regex'
    models = ('mmseg.models.segmentors.base.BaseSegmentor',)
    stand_ins = {
        'MaskFormerHead': 'maskformer_head',
        'MixVisionTransformer': 'mit',
        'SegFPN': 'fpn',
        'SegformerHead': 'segformer_head',
        'UPerHead': 'uper_head',
    }
    needs = {'MaskFormerHead': ('mmdet',)}
    task = 'segmentation'
    names = {
        'FPNHead': 'Semantic FPN',
        'Mask2FormerHead': 'Mask2Former',
        'MaskFormerHead': 'MaskFormer',
        'SegformerHead': 'SegFormer',
        'UPerHead': 'UPerNet',
    }

    def check_model(self, cfg: dict) -> None:
        super().check_model(cfg)
        for node in dicts(cfg['model']):
            head, decoder = node.get('type'), node.get('pixel_decoder') or {}
            is_host = type_name(node) == 'MaskFormerHead' and head != 'fade_mm.MaskFormerHead'
            if is_host and decoder.get('type') == 'fade_mm.PixelDecoder':
                raise SetupError(
                    f'{head} of the host library knows no fade_mm.PixelDecoder; write '
                    "type='fade_mm.MaskFormerHead'"
                )

    def task_of(self, cfg: dict) -> str | None:
        kinds = {type_name(x) for x in dicts(cfg.get('val_evaluator') or cfg.get('test_evaluator'))}
        return self.task if kinds.intersection(('IoUMetric', 'BoundaryIoUMetric')) else None

    def backbone_of(self, backbone: dict) -> str | None:
        return super().backbone_of(backbone) or transformer_of(backbone)

    def class_heads(self, model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        if hasattr(model, 'text_encoder'):  # class names are given to it as text
            return
        for name, place, head in heads_at(model, {'auxiliary_head', 'decode_head'}):
            loss = getattr(type(head), 'loss_by_feat', None)
            inherited = loss is None or loss.__qualname__ == 'BaseDecodeHead.loss_by_feat'
            if place == 'decode_head' or inherited:  # others learn something else, e.g. edges
                yield name, head

    def labels_are_classes(self, dataset) -> bool:
        return 'seg_map_path' in dataset.get_data_info(0)

    def check_dataset(self, dataset, place: str) -> None:
        if self.labels_are_classes(dataset) and not dataset.metainfo.get('classes'):
            raise SetupError(
                f'{place}: the data set has labels, but no class names; write '
                f"{place}.dataset.metainfo=dict(classes=('background', ...), palette=[...])"
            )
        if is_main_process():
            from .labels import tell_left_out

            tell_left_out(dataset, place)

    def watch(self, dataset) -> None:
        from mmseg.datasets.transforms import LoadAnnotations

        from .labels import CheckedLabels

        steps = getattr(dataset.pipeline, 'transforms', [])
        steps[:] = [CheckedLabels(x) if type(x) is LoadAnnotations else x for x in steps]

    def check_sample(self, sample: dict, result: dict, dataset) -> None:
        packed = result.get('data_samples') if isinstance(result, dict) else None
        classes = len(dataset.metainfo.get('classes') or ())
        ignore_index = getattr(dataset, 'ignore_index', None)
        if ignore_index is None or not classes or packed is None or 'gt_sem_seg' not in packed:
            return
        labels = packed.gt_sem_seg.data
        labels = labels[labels != ignore_index]
        if labels.numel() and labels.max() >= classes:
            raise SetupError(
                f'{sample.get("seg_map_path")} has label {labels.max()}, but the data set has '
                f'{counted(classes, "class", "classes")}, 0 to {classes - 1}, and '
                f'{ignore_index} for ignored pixels'
            )

    def keep_predictions(self, cfg: dict, path: str) -> None:
        """Write label maps as PNG files."""
        if os.path.isfile(path) or os.path.splitext(path)[1]:
            raise SetupError(f'--out takes a folder for segmentation, got {path}')
        writers = [x for x in metrics_of(cfg) if type_name(x) == 'IoUMetric']
        if not writers:
            raise SetupError('--out needs an IoUMetric in test_evaluator')
        writers[0].output_dir = path

    def predict(self, model: nn.Module, path: Path, second: Path | None = None):
        from mmseg.apis import inference_model

        with in_scope_of(model.cfg):
            return inference_model(model, str(path))

    def visualizer(self, cfg: dict, dataset_meta: dict) -> Visualizer:
        visualizer = super().visualizer(cfg, dataset_meta)
        visualizer.set_dataset_meta(dataset_meta.get('classes'), dataset_meta.get('palette'))
        return visualizer

    def prune(self, model: nn.Module) -> None:
        if getattr(model, 'auxiliary_head', None) is not None:
            model.auxiliary_head = None

    def single_pass(
        self, model: nn.Module, shape: tuple[int, int], mode: str = 'tensor'
    ) -> SinglePass:
        return SegmentorPass(model, shape, mode)

    def exported(self, model: nn.Module) -> Exported:
        from mmseg.models import EncoderDecoder

        from .export import ExportedSegmentor

        if not isinstance(model, EncoderDecoder):
            raise SetupError(
                f'the model is a {type(model).__name__}; only an EncoderDecoder can be exported'
            )
        note = ''
        if self.slides(model):
            note = (
                'tested by sliding windows, exported for whole pictures: results differ; '
                'model.test_cfg.mode=whole tests what is exported'
            )
        module = ExportedSegmentor(model).eval()
        inputs = {'image': self.channels(model)}
        return Exported(module, inputs, 'logits', module.traceable, note)


class SegmentorPass(SinglePass):
    """A segmentor as its multiply-adds are counted; some heads take the samples, too."""

    def forward(self, image: Tensor) -> object:
        head = getattr(self.model, 'decode_head', None)
        if head is not None and 'batch_data_samples' in inspect.signature(head.forward).parameters:
            return head(self.model.extract_feat(image), [self.sample])
        return super().forward(image)
