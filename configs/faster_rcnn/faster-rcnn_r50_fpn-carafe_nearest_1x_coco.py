# The host of most published rows: FPN_CARAFE has a fifth lateral, and so four upsamplers.
_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'
model = dict(
    data_preprocessor=dict(pad_size_divisor=64),
    neck=dict(type='fade_mm.FPN_CARAFE', upsample_cfg=dict(type='nearest')),
)
