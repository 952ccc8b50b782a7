# Depth on MobileNetV2 with ImageNet weights (tools/model_converters/mobilenet_v2.py writes the
# file), small enough for a CPU; the head is the config's own.
model = dict(
    type='DepthEstimator',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=0,  # depth that is not known
        size=(208, 272),
    ),
    backbone=dict(
        type='MobileNetV2',
        out_indices=(0, 1, 2, 4, 6),
        norm_cfg=dict(type='BN', requires_grad=True),
        init_cfg=dict(type='Pretrained', checkpoint='pretrained/mobilenet_v2.pth'),
    ),
    decode_head=dict(in_channels=[16, 24, 32, 96, 320], max_depth=10.0),
    test_cfg=dict(mode='whole'),
)
