"""What the task, the data, the host model and the upsampler of a config are called in tables.

Names of host models and upsamplers are those of ``tools/paper_tables.yml``. What has no name here
has none: nothing is guessed.
"""

import inspect
from pathlib import PurePath

from mmengine.config import Config

from fade_mm.registry import MODELS
from fade_mm.upsamplers import PRESETS

from .config import _dicts, type_name

UPSAMPLERS = {
    'Nearest': dict(type='nearest'),
    'Bilinear': dict(type='bilinear'),
    'Deconv': dict(type='deconv', kernel_size=3),
    'PixelShuffle': dict(type='pixel_shuffle', upsample_kernel=3),
    'CARAFE': dict(type='carafe'),
    'IndexNet': dict(type='indexnet'),
    'IndexNet-m2o': dict(type='indexnet', network='m2o', nonlinear=False, context=False),
    'A2U': dict(type='a2u'),
    'SAPA-I': dict(type='sapa', similarity='inner'),
    'SAPA-B': dict(type='sapa', similarity='bilinear'),
    'SAPA-G': dict(type='sapa', similarity='gated'),
    'DySample': dict(type='dysample'),
    'DySample+': dict(type='dysample', dyscope=True),
    'DySample-S': dict(type='dysample', style='pl'),
    'DySample-S+': dict(type='dysample', style='pl', dyscope=True),
    'FADE': dict(type='fade'),
    'FADE-Lite': dict(type='fade_lite'),
    'B1': dict(type='fade', kernel_source='encoder', fusion='none'),
    'B2': dict(type='fade', kernel_source='decoder', fusion='none'),
    'B3': dict(type='fade', kernel_generation='naive', fusion='none'),
    'B4': dict(type='fade', fusion='none'),
    'B5': dict(type='fade', fusion='skip'),
    'B6': dict(type='fade', fusion='gate'),
}
_WITHOUT_EFFECT = ('mode', 'downsampling')  # left over by a host; a branch that A2U never uses
_STOCK = {  # how classes upsample by themselves
    'FPN': 'Nearest',
    'SegFPN': 'Nearest',
    'PixelDecoder': 'Nearest',
    'TransformerEncoderPixelDecoder': 'Nearest',
    'MSDeformAttnPixelDecoder': 'Bilinear',
    'SegformerHead': 'Bilinear',
    'UPerHead': 'Bilinear',
}
_HOSTS = {  # by the class of the detector or the decode head
    'FasterRCNN': 'Faster R-CNN',
    'MaskRCNN': 'Mask R-CNN',
    'PanopticFPN': 'Panoptic FPN',
    'RetinaNet': 'RetinaNet',
    'FPNHead': 'Semantic FPN',
    'Mask2FormerHead': 'Mask2Former',
    'MaskFormerHead': 'MaskFormer',
    'SegformerHead': 'SegFormer',
    'UPerHead': 'UPerNet',
}
_TRANSFORMERS = {  # class, width, depths
    'MiT-B0': ('MixVisionTransformer', 32, [2, 2, 2, 2]),
    'MiT-B1': ('MixVisionTransformer', 64, [2, 2, 2, 2]),
    'MiT-B2': ('MixVisionTransformer', 64, [3, 4, 6, 3]),
    'MiT-B3': ('MixVisionTransformer', 64, [3, 4, 18, 3]),
    'MiT-B4': ('MixVisionTransformer', 64, [3, 8, 27, 3]),
    'MiT-B5': ('MixVisionTransformer', 64, [3, 6, 40, 3]),
    'Swin-T': ('SwinTransformer', 96, [2, 2, 6, 2]),
    'Swin-S': ('SwinTransformer', 96, [2, 2, 18, 2]),
    'Swin-B': ('SwinTransformer', 128, [2, 2, 18, 2]),
    'Swin-L': ('SwinTransformer', 192, [2, 2, 18, 2]),
}
_TASKS = {  # by the class of a metric
    'IoUMetric': 'segmentation',
    'BoundaryIoUMetric': 'segmentation',
    'CocoMetric': 'detection',
    'CocoPanopticMetric': 'panoptic',
    'DepthMetric': 'depth',
    'SAD': 'matting',
}
_DATA = {  # by the folder
    'ADEChallengeData2016': 'ADE20K',
    'bccd': 'BCCD',
    'camvid': 'CamVid',
    'coco': 'COCO',
    'shapes': 'shapes',
}


def upsampler_of(model: dict) -> str | None:
    """The name of a model's upsampler, ``None`` for one that has no name or where there are two.

    Args:
        model: The config of the model.
    """
    names = set()
    for node in _dicts(model):
        upsampler = node.get('upsample_cfg')
        if upsampler and 'type' in upsampler:
            names.add(_name_of(upsampler))
        elif type_name(node) in _STOCK:
            names.add(_STOCK[type_name(node)])
    return names.pop() if len(names) == 1 else None


def host_of(model: dict) -> str | None:
    """The name of a host model with its backbone, e.g. ``'SegFormer MiT-B0'``, or ``None``.

    Args:
        model: The config of the model.
    """
    model = model.get('module', model)  # in test-time augmentation
    host = _HOSTS.get(type_name(model)) or _HOSTS.get(type_name(model.get('decode_head')))
    backbone = _backbone(model.get('backbone') or {})
    return f'{host} {backbone}' if host and backbone else None


def task_of(cfg: Config) -> str | None:
    """What the metrics of a config's validation, else of its test, are metrics of, or ``None``.

    Args:
        cfg: The whole config.
    """
    for node in _dicts(cfg.get('val_evaluator') or cfg.get('test_evaluator')):
        task = _TASKS.get(type_name(node))
        if task:
            return 'instance' if 'segm' in (node.get('metric') or ()) else task
    return None


def data_of(dataloader: dict | None) -> str | None:
    """The name of a data set, which is its folder's where it has no other, or ``None``.

    Args:
        dataloader: The config of a data loader.
    """
    roots = [node['data_root'] for node in _dicts(dataloader) if node.get('data_root')]
    folder = PurePath(roots[0]).name if roots else None
    return _DATA.get(folder, folder)


def _backbone(backbone: dict) -> str | None:
    kind = type_name(backbone)
    if kind.startswith('ResNet') and 'depth' in backbone:
        return f'R{backbone["depth"]}'
    depths = backbone.get('num_layers') or backbone.get('depths')
    for name, (cls, width, layers) in _TRANSFORMERS.items():
        if kind == cls and backbone.get('embed_dims') == width and list(depths or ()) == layers:
            return name
    return None


def _name_of(upsampler: dict) -> str | None:
    spelled_out = _spelled_out(upsampler)
    return next((name for name, x in UPSAMPLERS.items() if _spelled_out(x) == spelled_out), None)


def _spelled_out(upsampler: dict) -> dict:
    """The config of an upsampler with the defaults of its class, so that spellings compare."""
    preset = PRESETS.get(type_name(upsampler))
    if preset:
        upsampler = {**upsampler, **preset}
    kind = upsampler['type']
    cls = kind if inspect.isclass(kind) else MODELS.module_dict.get(type_name(upsampler), kind)
    defaults = {}
    if inspect.isclass(cls):
        defaults = {name: x.default for name, x in inspect.signature(cls).parameters.items()}
    arguments = {**defaults, **upsampler, 'type': cls}
    return {name: x for name, x in arguments.items() if name not in _WITHOUT_EFFECT}
