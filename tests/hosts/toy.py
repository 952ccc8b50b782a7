"""A host library that does not exist: networks that learn to repeat a picture.

A config brings it in with ``custom_imports``; all that the tools ask of it is here.
"""

import mmcv
import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS, TRANSFORMS, VISUALIZERS
from mmengine.structures import BaseDataElement, PixelData
from mmengine.utils import scandir
from mmengine.visualization import Visualizer
from torch import nn

from fade_mm.hosts import Host
from fade_mm.hosts.traced import Exported
from fade_mm.registry import HOSTS
from fade_mm.upsamplers import build_upsampler


@HOSTS.register_module()
class ToyHost(Host):
    library = packages = 'toy'
    models = (f'{__name__}.Painter',)
    task = 'reconstruction'

    def name_of(self, model):
        return 'Painter'

    def input_size(self, cfg):
        return 32, 48

    def exported(self, model):
        return Exported(model, {'image': 3}, 'painted')


@MODELS.register_module()
class Painter(BaseModel):
    def __init__(self, upsample_cfg, data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.fine = nn.Conv2d(3, 8, 3, padding=1)
        self.coarse = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.upsampler = build_upsampler(upsample_cfg, 8, 8)
        self.paint = nn.Conv2d(8, 3, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        en = self.fine(inputs / 255).relu()
        painted = self.paint(self.upsampler(en, self.coarse(en)))
        if mode == 'loss':
            return dict(loss=(painted - inputs / 255).abs().mean())
        if mode == 'predict':
            for sample, picture in zip(data_samples, painted, strict=True):
                sample.painted = PixelData(data=picture)
            return data_samples
        return painted


@DATASETS.register_module()
class Pictures(BaseDataset):
    METAINFO = dict(classes=('paint',))

    def load_data_list(self):
        names = sorted(scandir(self.data_root, '.png'))
        return [dict(img_path=f'{self.data_root}/{name}') for name in names]


@TRANSFORMS.register_module()
class Pack:
    def __call__(self, sample):
        image = torch.from_numpy(np.ascontiguousarray(sample['img'].transpose(2, 0, 1)))
        known = {key: sample[key] for key in ('img_path', 'img_shape', 'ori_shape')}
        return dict(inputs=image, data_samples=BaseDataElement(metainfo=known))


@METRICS.register_module()
class MeanError(BaseMetric):
    better = {'error': 'less'}

    def process(self, data_batch, data_samples):
        for sample in data_samples:
            truth = mmcv.imread(sample['img_path']).transpose(2, 0, 1) / 255
            self.results.append(np.abs(sample['painted']['data'].cpu().numpy() - truth).mean())

    def compute_metrics(self, results):
        return {'error': float(np.mean(results))}


@VISUALIZERS.register_module()
class Easel(Visualizer):
    def add_datasample(self, name, image, data_sample, draw_gt=True, **kwargs):
        painted = data_sample.painted.data.clamp(0, 1).cpu().numpy().transpose(1, 2, 0)
        self.set_image(np.hstack([image, (255 * painted).astype(np.uint8)[..., ::-1]]))
