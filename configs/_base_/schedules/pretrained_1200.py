# A pretrained backbone on one process: 1,200 iterations of AdamW, scored at the end.
_base_ = './scratch_1500.py'
optim_wrapper = dict(
    constructor='fade_mm.UpsamplerOptimWrapperConstructor',
    paramwise_cfg=dict(upsampler=dict(lr_mult=0.1)),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=100),
    dict(type='PolyLR', eta_min=0.0, power=1.0, by_epoch=False, begin=100, end=1200),
]
train_cfg = dict(max_iters=1200, val_interval=1200)
default_hooks = dict(checkpoint=dict(interval=400))
