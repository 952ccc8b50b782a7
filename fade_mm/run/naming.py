"""What the data, the host model and the upsampler of a config are called in tables.

Names are those of ``fade_mm/papers/tables.yml``. What has none there has none: nothing is guessed.
"""

import inspect
from pathlib import PurePath

from mmengine.config import Config

from fade_mm.hosts.base import host_of, resolve, stand_in_of
from fade_mm.hosts.configs import dicts, type_name
from fade_mm.registry import MODELS
from fade_mm.upsamplers import PRESETS

UPSAMPLERS = {  # presets, by what tables call them
    'Nearest': 'nearest',
    'Bilinear': 'bilinear',
    'Deconv': 'deconv3',
    'PixelShuffle': 'pixel_shuffle3',
    'CARAFE': 'carafe',
    'IndexNet': 'indexnet',
    'IndexNet-m2o': 'indexnet_m2o',
    'A2U': 'a2u',
    'SAPA-I': 'sapa_i',
    'SAPA-B': 'sapa_b',
    'SAPA-G': 'sapa_g',
    'SAPA-D': 'sapa_d',
    'DySample': 'dysample',
    'DySample+': 'dysample_plus',
    'DySample-S': 'dysample_s',
    'DySample-S+': 'dysample_s_plus',
    'LDA-AQU': 'lda_aqu',
    'FreqFusion': 'freqfusion',
    'FreqFusion-SegNeXt': 'freqfusion_segnext',
    'FADE': 'fade',
    'FADE-Lite': 'fade_lite',
    **{f'B{i}': f'fade_b{i}' for i in range(1, 7)},
}
# As published for matting alone; a control that no paper has.
_ALSO = {'IndexNet': 'indexnet_matting', 'Depthwise 5x5': 'depthwise'}
# Left over by a host; a branch that A2U never uses; what divides the channels of a narrow host.
_NOT_IN_NAMES = ('mode', 'downsampling', 'num_groups')
_DATA = {  # by the folder
    'ADEChallengeData2016': 'ADE20K',
    'bccd': 'BCCD',
    'camvid': 'CamVid',
    'coco': 'COCO',
    'composition-1k': 'Composition-1K',
    'nyu': 'NYU Depth v2, 320x240',
    'nyu_depth_v2': 'NYU Depth v2',
    'shapes': 'shapes',
}


def upsampler_of(cfg: Config) -> str | None:
    """The name of a model's upsampler, ``None`` for one that has no name or where there are two.

    Args:
        cfg: The whole config.
    """
    names = set()
    for node in dicts(cfg['model']):
        asked = node.get('upsample_cfg')
        stand_in = stand_in_of(resolve(node.get('type'), cfg.get('default_scope')))
        if asked and 'type' in asked:
            names.add(_name_of(asked))
        elif hasattr(stand_in, 'stock_upsampler'):
            names.add(stand_in.stock_upsampler)
    return names.pop() if len(names) == 1 else None


def host_name(cfg: Config) -> str | None:
    """The name of a host model with its backbone, e.g. ``'SegFormer MiT-B0'``, or ``None``.

    Args:
        cfg: The whole config.
    """
    model = cfg['model']
    return host_of(cfg).name_of(model.get('module', model))  # in test-time augmentation


def data_of(dataloader: dict | None) -> str | None:
    """The name of a data set, which is its folder's where it has no other, or ``None``.

    Args:
        dataloader: The config of a data loader.
    """
    roots = [node['data_root'] for node in dicts(dataloader) if node.get('data_root')]
    folder = PurePath(roots[0]).name if roots else None
    return _DATA.get(folder, folder)


def _name_of(upsampler: dict) -> str | None:
    if upsampler.get('gating') is False:
        name = _name_of({key: x for key, x in upsampler.items() if key != 'gating'})
        return f'{name} without gate' if name else None
    groups = upsampler.get('up_group', 1)
    if groups > 1:
        name = _name_of({**upsampler, 'up_group': 1})
        return f'{name} with {groups} groups' if name else None
    spelled_out = _spelled_out(upsampler)
    named = [*UPSAMPLERS.items(), *_ALSO.items()]
    return next((name for name, x in named if _spelled_out(dict(type=x)) == spelled_out), None)


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
    return {name: x for name, x in arguments.items() if name not in _NOT_IN_NAMES}
