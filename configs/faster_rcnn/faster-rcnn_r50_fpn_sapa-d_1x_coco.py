_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'
model = dict(neck=dict(type='fade_mm.FPN', upsample_cfg=dict(type='sapa_d')))
