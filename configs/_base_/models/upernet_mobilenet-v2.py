# UPerNet on MobileNetV2 with ImageNet weights (tools/model_converters/mobilenet_v2.py writes the
# file), small enough for a CPU, with spatial convolutions behind each upsampler.
_base_ = 'mmseg::_base_/models/upernet_r50.py'
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    pretrained=None,
    backbone=dict(
        _delete_=True,
        type='MobileNetV2',
        out_indices=(1, 2, 4, 6),
        norm_cfg=norm_cfg,
        init_cfg=dict(type='Pretrained', checkpoint='pretrained/mobilenet_v2.pth'),
    ),
    decode_head=dict(
        type='fade_mm.UPerHead', in_channels=[24, 32, 96, 320], channels=64, norm_cfg=norm_cfg
    ),
    auxiliary_head=None,
)
