_base_ = './mask-rcnn_mobilenet-v2_fpn_nearest_1xb4-12e_nuclei-256x256.py'
model = dict(neck=dict(upsample_cfg=dict(type='indexnet')))
