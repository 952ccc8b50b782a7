# Boxes in pictures of your own: Faster R-CNN from ImageNet weights. See docs/own_data.md.
_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'
data_root = 'data/mine'  # holds images/, train.json and val.json
classes = ('cat', 'dog')  # as train.json has them, in its order; a single one: ('cat',)
scale = (800, 600)  # longer and shorter side at most; twice both: 4 times the time and memory
batch = 2  # pictures a step; twice as many: twice the time and memory of a step
epochs = 12  # the length, which warm-up and decay follow; below 2,000 steps in all, more is better
most = 300  # boxes kept of a picture: no fewer than any picture has, or the others are lost
proposals = 1000  # candidates a picture, several times `most`; fewer save little
rois = 512  # candidates a picture to learn from; fewer: less memory, and more epochs to learn

train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[2].scale = test_pipeline[1].scale = scale  # the steps of type Resize
data = dict(data_root=data_root, data_prefix=dict(img='images/'), metainfo=dict(classes=classes))
train_dataloader = dict(
    batch_size=batch, dataset=dict(ann_file='train.json', pipeline=train_pipeline, **data)
)
val_dataloader = dict(dataset=dict(ann_file='val.json', pipeline=test_pipeline, **data))
val_evaluator = dict(ann_file=f'{data_root}/val.json')
test_dataloader, test_evaluator = val_dataloader, val_evaluator
model = dict(
    neck=dict(type='fade_mm.FPN'),  # without an upsampler it is mmdetection's own FPN, bit for bit
    roi_head=dict(bbox_head=dict(num_classes=len(classes))),
    train_cfg=dict(rpn_proposal=dict(max_per_img=proposals), rcnn=dict(sampler=dict(num=rois))),
    test_cfg=dict(rpn=dict(max_per_img=proposals), rcnn=dict(max_per_img=most)),
)
optim_wrapper = dict(optimizer=dict(lr=0.02 * batch / 16))  # 0.02 is for 16 pictures a step
auto_scale_lr = dict(base_batch_size=batch)  # on several GPUs, --auto-scale-lr raises it again
train_cfg = dict(max_epochs=epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, end=max(1, epochs // 20), convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=epochs, convert_to_iter_based=True),
]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(max_keep_ckpts=1))
randomness = dict(seed=0)
