# With the branch for down-sampling that upsampling never uses, as the published count has it.
_base_ = './faster-rcnn_r50_fpn-carafe_nearest_1x_coco.py'
model = dict(neck=dict(upsample_cfg=dict(type='a2u_published')))
find_unused_parameters = True
