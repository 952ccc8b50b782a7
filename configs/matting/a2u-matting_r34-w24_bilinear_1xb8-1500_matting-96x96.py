# From scratch at 3/8 of the widths, small enough for a CPU; the baseline of the other small ones.
_base_ = [
    '../_base_/models/a2u_matting_r34.py',
    '../_base_/datasets/matting_96x96.py',
    '../_base_/matting_runtime.py',
]
# A crop is 6 x 6 points for the context: the published dilations (6, 12, 18) would reach beyond it,
# and meet neighbours for the first time in whole pictures.
# With the published start of the head, some seeds learn nothing in 1,500 iterations.
model = dict(base_channels=24, dilations=(1, 1, 2, 3), start_head_positive=True)
# The rate rises to 2e-3 and falls, once. (OneCycleLR, which does that too, gives all layers its own
# `eta_max`, whatever `paramwise_cfg` says.)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='fade_mm.UpsamplerOptimWrapperConstructor',
    optimizer=dict(type='Adam', lr=2e-3),
    paramwise_cfg=dict(upsampler=dict(lr_mult=0.1)),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.04, by_epoch=False, begin=0, end=450),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=False, begin=450, end=1500, T_max=1050),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=1500, val_interval=500)
randomness = dict(seed=0)
