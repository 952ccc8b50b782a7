"""mmsegmentation: monocular depth."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from mmengine.visualization import Visualizer
from torch import nn

from fade_mm.errors import SetupError
from fade_mm.hosts.base import Host
from fade_mm.hosts.configs import dicts, type_name
from fade_mm.hosts.mmseg import MMSegHost
from fade_mm.hosts.traced import Exported
from fade_mm.registry import HOSTS

_FACTOR = 1e-3  # of stored values, where a config says none: millimetres


@HOSTS.register_module()
class DepthHost(MMSegHost):
    """Monocular depth with mmsegmentation."""

    models = ('mmseg.models.segmentors.depth_estimator.DepthEstimator',)
    stand_ins = {'BTSHead': 'bts_head', 'ResNet': 'resnet', 'UNetDepthHead': 'unet_head'}
    needs = {}
    task = 'depth'
    names = {'BTSHead': 'BTS', 'UNetDepthHead': 'U-Net'}

    def check_model(self, cfg: dict) -> None:
        super().check_model(cfg)
        test_cfg = cfg['model'].get('test_cfg') or {}
        mode = test_cfg.get('mode')
        if mode not in ('whole', 'slide_flip'):  # with 'slide', the library predicts whole pictures
            raise SetupError(
                f"model.test_cfg.mode must be 'whole', or 'slide_flip' to average with the "
                f'mirrored picture, got {mode!r}'
            )
        if mode == 'slide_flip' and not {'crop_size', 'stride'} <= set(test_cfg):
            raise SetupError(
                "model.test_cfg.mode='slide_flip' needs crop_size and stride, both as large as the "
                'pictures or larger for one window'
            )

    def task_of(self, cfg: dict) -> str | None:
        metrics = dicts(cfg.get('val_evaluator') or cfg.get('test_evaluator'))
        return self.task if 'DepthMetric' in map(type_name, metrics) else None

    def class_heads(self, model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        return iter(())

    def labels_are_classes(self, dataset) -> bool:
        return False  # mmsegmentation's NYUDataset has names of scenes

    def watch(self, dataset) -> None:
        from mmseg.datasets.transforms import LoadDepthAnnotation

        from .maps import CheckedDepth

        steps = getattr(dataset.pipeline, 'transforms', [])
        steps[:] = [CheckedDepth(x) if type(x) is LoadDepthAnnotation else x for x in steps]

    def keep_predictions(self, cfg: dict, path: str) -> None:
        """Write depth maps as PNG files of 16 bits, in the unit of the data set's own."""
        if os.path.isfile(path) or os.path.splitext(path)[1]:
            raise SetupError(f'--out takes a folder for depth, got {path}')
        largest = (cfg.model.get('decode_head') or {}).get('max_depth', 0)
        if largest / self._factor(cfg) > np.iinfo(np.uint16).max:
            raise SetupError(
                f'--out writes 16 bits, which cannot hold max_depth={largest} over '
                f'depth_rescale_factor={self._factor(cfg)}; take a larger factor'
            )
        keeping = dict(type='fade_mm.PredictionHook', folder=path)
        cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), keeping]

    def as_picture(self, cfg: dict, prediction) -> np.ndarray:
        """Depth ``(h, w)`` in the unit of the data set's maps, uint16."""
        depth = prediction.pred_depth_map.data.squeeze(0).float().cpu().numpy()
        levels = np.round(depth / self._factor(cfg))
        return levels.clip(0, np.iinfo(np.uint16).max).astype(np.uint16)

    def _factor(self, cfg: dict) -> float:
        """What makes metres of the values in a test set's depth maps."""
        factors = [x.get('depth_rescale_factor') for x in dicts(cfg.get('test_dataloader'))]
        return next(filter(None, factors), _FACTOR)

    def augment(self, cfg: dict) -> None:
        raise SetupError(
            '--tta: for depth, the config says it: model.test_cfg.mode=slide_flip with crop_size '
            'and stride as large as the pictures averages with the mirrored picture'
        )

    def predict(self, model: nn.Module, path: Path):
        return Host.predict(self, model, path)

    def visualizer(self, cfg: dict, dataset_meta: dict) -> Visualizer:
        from .visualizer import DepthVisualizer

        return DepthVisualizer(name='drawn')

    def slides(self, model: nn.Module) -> bool:
        return model.test_cfg.mode != 'whole'

    def exported(self, model: nn.Module) -> Exported:
        exported = super().exported(model)
        exported.output = 'depth'
        if exported.note:
            exported.note = (
                'tested with averages over windows and mirrored pictures, exported for whole '
                'pictures as they are: results differ; model.test_cfg.mode=whole tests what is '
                'exported'
            )
        return exported
