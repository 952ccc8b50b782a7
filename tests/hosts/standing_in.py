"""Each class of ours in a host, beside the host library's that it stands in for, small.

A new one gets a row here (`test_every_stand_in.py` fails until it has one).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from mmdet.models import layers, necks
from mmdet.models.necks import FPN as MMDetFPN
from mmdet.models.necks import FPN_CARAFE as MMDetFPN_CARAFE
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope
from mmseg.models import backbones, decode_heads
from mmseg.models.necks import FPN as MMSegFPN
from mmseg.structures import SegDataSample

from fade_mm.hosts import stand_ins
from fade_mm.run import load_config

CHANNELS = [4, 8, 16, 32]


class Pair(NamedTuple):
    """A class of ours and the host library's.

    Args:
        ours: Builds ours.
        theirs: Builds the host library's from the same arguments; ``None`` where there is none.
        arguments: What both take.
        outputs: All that a module makes of features (of an image, for a backbone), in one list.
        skip: What the host does with the encoder feature, as in `build_upsampler`.
        upsamplers: How many it has of four levels; 0 where it takes no ``upsample_cfg``.
        stock_types: Types of ``upsample_cfg`` with which it is the host's and has none.
        gated: Whether FADE has its gate there, unless asked.
        sizes: Of the finest features that the host library's takes, odd ones where it takes them.
    """

    ours: Callable
    theirs: Callable | None
    arguments: dict
    outputs: Callable
    skip: str | None = None
    upsamplers: int = 0
    stock_types: tuple[str, ...] = ()
    gated: bool = False
    sizes: tuple[tuple[int, int], ...] = ((16, 24), (17, 23))


def features(height, width, batch=2, channels=CHANNELS):
    """Of all levels, from fine to coarse; rounded up where a size is odd."""
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.randn(batch, c, -(-height // 2**i), -(-width // 2**i), generator=generator)
        for i, c in enumerate(channels)
    )


def listed(module, height, width):
    channels = module.in_channels if hasattr(module, 'max_depth') else CHANNELS
    outs = module(features(height, width, channels=channels))
    return [outs] if isinstance(outs, torch.Tensor) else list(outs)


def metas(height, width):
    """Two images, the second with padding below and to the right."""
    shapes = ((4 * height, 4 * width), (3 * height, 3 * width))
    return [dict(batch_input_shape=shapes[0], img_shape=shape) for shape in shapes]


def decoded(module, height, width):
    """A pixel decoder's mask feature, and all that goes to the transformer."""
    feats = list(features(height, width))
    arguments = (feats,) if hasattr(module, 'level_encoding') else (feats, metas(height, width))
    mask, memory = module(*arguments)
    return [mask, *(memory if isinstance(memory, list) else [memory])]


def maskformer(head_type, decoder_type):
    def build():
        stock = 'mmseg::maskformer/maskformer_swin-s_upernet_8xb2-160k_ade20k-512x512.py'
        cfg = load_config(stock).model.decode_head
        cfg.update(in_channels=CHANNELS, num_queries=5, enforce_decoder_input_project=True)
        cfg.transformer_decoder.num_layers = 1
        cfg.type, cfg.pixel_decoder.type = head_type, decoder_type
        with DefaultScope.overwrite_default_scope('mmseg'):
            return MODELS.build(cfg)

    return build


def classified(module, height, width):
    samples = [SegDataSample(metainfo=meta) for meta in metas(height, width)]
    return [*module(list(features(height, width)), samples)]


def encoded(module, height, width):
    torch.manual_seed(0)
    return list(module(torch.randn(2, 3, 4 * height, 4 * width)))


NECK = dict(in_channels=CHANNELS, out_channels=32, num_outs=5)
HEAD = dict(in_channels=CHANNELS, in_index=[0, 1, 2, 3], channels=32, num_classes=5)
DECODER = ConfigDict(
    in_channels=CHANNELS,
    feat_channels=32,
    out_channels=12,
    norm_cfg=dict(type='GN', num_groups=4),
)
ATTENTION = dict(
    self_attn_cfg=dict(embed_dims=32, num_heads=2, batch_first=True),
    ffn_cfg=dict(embed_dims=32, feedforward_channels=24),
)
POSITIONS = dict(positional_encoding=dict(num_feats=16, normalize=True))
ENCODED = DECODER | POSITIONS | dict(encoder=dict(num_layers=1, layer_cfg=ATTENTION))
DEFORMABLE = ENCODED | dict(
    encoder=dict(
        num_layers=2,
        layer_cfg=ATTENTION | dict(self_attn_cfg=dict(ATTENTION['self_attn_cfg'], num_levels=3)),
    )
)
BACKBONE = dict(embed_dims=8, num_layers=[1, 1, 1, 1], num_heads=[1, 2, 2, 2])


def decoder(name, arguments, upsamplers):
    ours, theirs = getattr(stand_ins, name), getattr(layers, name)
    return Pair(ours, theirs, ConfigDict(arguments), decoded, 'added', upsamplers)


CSP_NECK = dict(in_channels=CHANNELS, out_channels=8, num_csp_blocks=1)


def csp_neck(name):
    """A neck that concatenates; the host library's fails at odd sizes."""
    ours, theirs = getattr(stand_ins, name), getattr(necks, name)
    even = ((16, 24), (32, 16))
    return Pair(ours, theirs, CSP_NECK, listed, 'concatenated', 3, gated=True, sizes=even)


PAIRS = {
    'CSPNeXtPAFPN': csp_neck('CSPNeXtPAFPN'),
    'FPN': Pair(stand_ins.FPN, MMDetFPN, NECK, listed, 'added', 3),
    'FPN_CARAFE': Pair(
        stand_ins.FPN_CARAFE,
        MMDetFPN_CARAFE,
        NECK | dict(upsample_cfg=ConfigDict(type='deconv', upsample_kernel=3)),
        listed,
        'added',
        4,
        ('nearest', 'bilinear', 'pixel_shuffle'),
    ),
    'PAFPN': Pair(stand_ins.PAFPN, necks.PAFPN, NECK, listed, 'added', 3),
    'YOLOXPAFPN': csp_neck('YOLOXPAFPN'),
    'SegFPN': Pair(stand_ins.SegFPN, MMSegFPN, NECK, listed, 'added', 3),
    'SegformerHead': Pair(
        stand_ins.SegformerHead, decode_heads.SegformerHead, HEAD, listed, None, 6, gated=True
    ),
    'UPerHead': Pair(stand_ins.UPerHead, decode_heads.UPerHead, HEAD, listed, 'added', 3),
    'PixelDecoder': decoder('PixelDecoder', DECODER, 3),
    'TransformerEncoderPixelDecoder': decoder('TransformerEncoderPixelDecoder', ENCODED, 3),
    'MSDeformAttnPixelDecoder': decoder('MSDeformAttnPixelDecoder', DEFORMABLE, 1),
    'MixVisionTransformer': Pair(
        stand_ins.MixVisionTransformer, backbones.MixVisionTransformer, BACKBONE, encoded
    ),
    'MaskFormerHead': Pair(
        maskformer('fade_mm.MaskFormerHead', 'fade_mm.PixelDecoder'),
        maskformer('MaskFormerHead', 'mmdet.PixelDecoder'),
        {},
        classified,
    ),
    'BTSHead': Pair(  # with equal channels in each step, so that each upsampler can be built
        stand_ins.BTSHead,
        None,
        dict(in_channels=[16, 16, 64, 32, 32], channels=64),
        listed,
        'concatenated',
        4,
    ),
    'UNetDepthHead': Pair(
        stand_ins.UNetDepthHead,
        None,
        dict(in_channels=CHANNELS, channels=16),
        listed,
        'concatenated',
        3,
        gated=True,
    ),
    'ResNet': Pair(stand_ins.ResNet, backbones.ResNet, dict(depth=18), encoded),
}
STANDING_IN = [name for name, pair in PAIRS.items() if pair.theirs]
UPSAMPLING = [name for name, pair in PAIRS.items() if pair.upsamplers]
