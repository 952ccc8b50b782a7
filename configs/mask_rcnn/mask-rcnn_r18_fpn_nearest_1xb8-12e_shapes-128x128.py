# From scratch, small enough for a CPU; the baseline of the FADE config beside it.
_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    'mmdet::_base_/default_runtime.py',
    '../_base_/datasets/shapes_instance_128x128.py',
    '../_base_/schedules/scratch_12e.py',
]
model = dict(
    backbone=dict(depth=18, frozen_stages=-1, norm_eval=False, init_cfg=None),
    neck=dict(type='fade_mm.FPN', in_channels=[64, 128, 256, 512]),
    roi_head=dict(bbox_head=dict(num_classes=4), mask_head=dict(num_convs=2, num_classes=4)),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=200, max_per_img=100),
        rcnn=dict(sampler=dict(num=32)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=100), rcnn=dict(max_per_img=20)),
)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
env_cfg = dict(dist_cfg=dict(backend='gloo'))
