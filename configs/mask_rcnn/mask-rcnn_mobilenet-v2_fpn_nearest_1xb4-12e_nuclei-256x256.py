# From ImageNet weights (docs/data.md), small enough for a CPU: half the channels, fewer regions, as
# many objects as the pictures have (206 at most); the baseline of the configs beside it.
_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    'mmdet::_base_/default_runtime.py',
    '../_base_/datasets/nuclei_256x256.py',
    '../_base_/schedules/scratch_12e.py',
]
model = dict(
    backbone=dict(
        _delete_=True,
        type='MobileNetV2',
        out_indices=(1, 2, 4, 6),
        init_cfg=dict(type='Pretrained', checkpoint='pretrained/mobilenet_v2_mmdet.pth'),
    ),
    neck=dict(type='fade_mm.FPN', in_channels=[24, 32, 96, 320], out_channels=128),
    rpn_head=dict(
        in_channels=128,
        feat_channels=128,
        anchor_generator=dict(scales=[4]),  # the nuclei's median side is 19 pixels
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=128),
        bbox_head=dict(in_channels=128, fc_out_channels=512, num_classes=1),
        mask_roi_extractor=dict(out_channels=128),
        mask_head=dict(in_channels=128, conv_out_channels=128, num_classes=1),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=1000, max_per_img=500),
        rcnn=dict(sampler=dict(num=128)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=1000, max_per_img=1000), rcnn=dict(max_per_img=300)),
)
optim_wrapper = dict(
    constructor='fade_mm.UpsamplerOptimWrapperConstructor',
    paramwise_cfg=dict(upsampler=dict(lr_mult=0.1)),
)
train_cfg = dict(val_interval=12)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
env_cfg = dict(dist_cfg=dict(backend='gloo'))
