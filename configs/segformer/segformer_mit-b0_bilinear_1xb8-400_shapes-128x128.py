# The demo: from scratch on pictures that tools/dataset_converters/make_shapes.py generates.
_base_ = './segformer_mit-b0_bilinear_1xb4-1500_camvid-256x256.py'
data_root = 'data/shapes'
metainfo = dict(
    classes=('background', 'blob', 'ring', 'star', 'comb'),
    palette=[[40, 40, 40], [70, 130, 230], [90, 200, 120], [240, 200, 60], [170, 110, 210]],
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=False),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=8,
    dataset=dict(data_root=data_root, metainfo=metainfo, pipeline=train_pipeline),
)
val_dataloader = dict(batch_size=8, dataset=dict(data_root=data_root, metainfo=metainfo))
test_dataloader = val_dataloader
model = dict(data_preprocessor=dict(size=(128, 128)), decode_head=dict(num_classes=5))
train_cfg = dict(max_iters=400, val_interval=400)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', eta_min=0.0, power=1.0, by_epoch=False, begin=50, end=400),
]
# At the head's rate, some of the upsamplers' kernels end as constant shifts: docs/monitor.md.
optim_wrapper = dict(
    constructor='fade_mm.UpsamplerOptimWrapperConstructor',
    paramwise_cfg=dict(upsampler=dict(lr_mult=0.1)),
)
default_hooks = dict(checkpoint=dict(interval=100))
