# A class for each pixel of your pictures: SegFormer from ImageNet weights. See docs/own_data.md.
_base_ = 'mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py'
data_root = 'data/mine'  # holds {images,annotations}/{training,validation}/
endings = dict(img_suffix='.jpg', seg_map_suffix='.png')
classes = ('road', 'tree', 'sky')  # those of label 0, 1, 2; label 255 is neither learnt nor scored
scale = (1024, 512)  # longer and shorter side at most, in testing and on average in training
crop = (512, 512)  # what is cut out of a picture for a step; twice both: 4 times time and memory
batch = 4  # crops a step; twice as many: twice the time and memory of a step
iterations = 8000  # steps, the length; warm-up, decay, validation and checkpoints follow it

tenth = max(2, iterations // 10)
train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[1].reduce_zero_label = test_pipeline[2].reduce_zero_label = None  # see the page
train_pipeline[2].scale = test_pipeline[1].scale = scale  # RandomResize, Resize
train_pipeline[3].crop_size = crop
data = dict(type='BaseSegDataset', data_root=data_root, metainfo=dict(classes=classes), **endings)
train_dataloader = dict(batch_size=batch, dataset=dict(pipeline=train_pipeline, **data))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline, **data))
val_evaluator = [
    dict(type='IoUMetric', iou_metrics=['mIoU']),
    dict(type='fade_mm.BoundaryIoUMetric'),
]
test_dataloader, test_evaluator = val_dataloader, val_evaluator
model = dict(
    data_preprocessor=dict(size=crop),
    decode_head=dict(type='fade_mm.SegformerHead', num_classes=len(classes)),
)
optim_wrapper = dict(optimizer=dict(lr=6e-5 * (batch / 16) ** 0.5))  # 6e-5 is for 16 crops a step
train_cfg = dict(max_iters=iterations, val_interval=tenth)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, end=tenth),
    dict(type='PolyLR', power=1.0, by_epoch=False, begin=tenth, end=iterations),
]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=tenth, max_keep_ckpts=1))
randomness = dict(seed=0)
