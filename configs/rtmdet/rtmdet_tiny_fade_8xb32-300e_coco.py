_base_ = './rtmdet_tiny_nearest_8xb32-300e_coco.py'
model = dict(neck=dict(upsample_cfg=dict(type='fade')))
