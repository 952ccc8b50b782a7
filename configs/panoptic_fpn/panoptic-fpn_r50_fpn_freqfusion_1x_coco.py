_base_ = 'mmdet::panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py'
model = dict(neck=dict(type='fade_mm.FPN', upsample_cfg=dict(type='freqfusion')))
