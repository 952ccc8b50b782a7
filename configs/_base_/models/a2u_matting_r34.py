# A2U Matting with a ResNet-34, as in FADE's matting table (poppinace/fade, a2u_matting/).
model = dict(
    type='fade_mm.A2UMatting',
    data_preprocessor=dict(
        type='fade_mm.MattingPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        size_divisor=16,
    ),
    upsample_cfg=dict(type='bilinear'),
    loss=dict(type='fade_mm.MattingLoss', loss_weight_alpha=0.5, loss_weight_comp=0.5),
    test_cfg=dict(mode='whole'),
)
visualizer = dict(
    type='fade_mm.MattingVisualizer', vis_backends=[dict(type='LocalVisBackend')], name='visualizer'
)
