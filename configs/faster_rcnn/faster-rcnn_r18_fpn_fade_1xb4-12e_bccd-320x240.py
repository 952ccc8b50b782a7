_base_ = './faster-rcnn_r18_fpn_nearest_1xb4-12e_bccd-320x240.py'
model = dict(neck=dict(upsample_cfg=dict(type='fade')))
