# Depth in pictures of your own: BTS with ResNet-50 from ImageNet weights. See docs/own_data.md.
# In a copy elsewhere, the way from there to our config, e.g. 'configs/bts/...'.
_base_ = '../bts/bts_r50_nearest_1xb4-50e_nyu-416x544.py'
data_root = 'data/mine'  # holds {images,depth}/{training,validation}/
endings = dict(img_suffix='.jpg', depth_map_suffix='.png')
factor = 1e-3  # what makes metres of the values in depth maps, in which 0 stands for not known
nearest, farthest = 0.1, 10.0  # metres; nearer is not learnt, farther cannot be predicted
crop = (416, 544)  # rows, columns cut out of a picture for a step; no larger than any picture
batch = 4  # crops a step; twice as many: twice the time and memory of a step
iterations = 20000  # steps, the length; decay, validation and checkpoints follow it

tenth = max(2, iterations // 10)
train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[1].depth_rescale_factor = test_pipeline[1].depth_rescale_factor = factor
train_pipeline[4].crop_size = crop
train_pipeline.pop(2)  # FixedCrop, of pictures with a white frame
train, val = (
    dict(img_path=f'images/{split}', depth_map_path=f'depth/{split}')
    for split in ('training', 'validation')
)
data = dict(data_root=data_root, ann_file='', **endings)
train_dataloader = dict(
    batch_size=batch, dataset=dict(data_prefix=train, pipeline=train_pipeline, **data)
)
val_dataloader = dict(dataset=dict(data_prefix=val, pipeline=test_pipeline, **data))
val_evaluator = dict(min_depth=nearest, max_depth=farthest, crop=None)
test_dataloader, test_evaluator = val_dataloader, val_evaluator
loss = dict(type='fade_mm.SILogLoss', min_depth=nearest)
model = dict(
    data_preprocessor=dict(size=crop), decode_head=dict(max_depth=farthest, loss_decode=loss)
)
train_cfg = dict(max_iters=iterations, val_interval=tenth)
param_scheduler = [
    dict(type='PolyLR', power=0.9, eta_min=1e-5, by_epoch=False, begin=0, end=iterations + 1)
]
checkpoint = dict(interval=tenth, max_keep_ckpts=1, save_best=None)
default_hooks = dict(logger=dict(interval=10), checkpoint=checkpoint)
randomness = dict(seed=0)
