_base_ = './panoptic-fpn_r50_fpn_fade_1x_coco.py'
model = dict(neck=dict(upsample_cfg=dict(type='dysample', style='pl', dyscope=True)))
