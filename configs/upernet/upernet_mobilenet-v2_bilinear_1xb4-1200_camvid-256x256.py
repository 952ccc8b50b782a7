# Small enough for a CPU, with ImageNet weights (tools/model_converters/mobilenet_v2.py writes the
# file) and spatial convolutions behind each upsampler; the baseline of the configs beside it.
_base_ = [
    'mmseg::_base_/models/upernet_r50.py',
    'mmseg::_base_/default_runtime.py',
    '../_base_/datasets/camvid_256x256.py',
    '../_base_/schedules/pretrained_1200.py',
]
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    data_preprocessor=dict(size=(256, 256)),
    pretrained=None,
    backbone=dict(
        _delete_=True,
        type='MobileNetV2',
        out_indices=(1, 2, 4, 6),
        norm_cfg=norm_cfg,
        init_cfg=dict(type='Pretrained', checkpoint='pretrained/mobilenet_v2.pth'),
    ),
    decode_head=dict(
        type='fade_mm.UPerHead',
        in_channels=[24, 32, 96, 320],
        channels=64,
        num_classes=11,
        norm_cfg=norm_cfg,
    ),
    auxiliary_head=None,
)
env_cfg = dict(cudnn_benchmark=False, dist_cfg=dict(backend='gloo'))
