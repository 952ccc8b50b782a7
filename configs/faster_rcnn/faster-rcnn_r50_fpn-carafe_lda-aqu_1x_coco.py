_base_ = './faster-rcnn_r50_fpn-carafe_nearest_1x_coco.py'
model = dict(neck=dict(upsample_cfg=dict(type='lda_aqu')))
