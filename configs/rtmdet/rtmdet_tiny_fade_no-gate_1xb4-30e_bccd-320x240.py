_base_ = './rtmdet_tiny_nearest_1xb4-30e_bccd-320x240.py'
model = dict(neck=dict(upsample_cfg=dict(type='fade', gating=False)))
