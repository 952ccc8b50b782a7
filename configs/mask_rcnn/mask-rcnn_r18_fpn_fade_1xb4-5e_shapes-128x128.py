_base_ = './mask-rcnn_r18_fpn_nearest_1xb4-5e_shapes-128x128.py'
model = dict(neck=dict(upsample_cfg=dict(type='fade')))
