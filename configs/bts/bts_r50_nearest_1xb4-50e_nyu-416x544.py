# BTS's recipe for NYU Depth v2, on one GPU; the baseline of the other configs here.
_base_ = ['mmseg::_base_/default_runtime.py', '../_base_/datasets/nyu_416x544.py']
model = dict(
    type='DepthEstimator',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=0,  # depth that is not known
        size=(416, 544),
    ),
    backbone=dict(
        type='fade_mm.ResNet',
        depth=50,
        with_stem=True,
        frozen=[r'conv1\.', r'(.*\.)?bn\d'],  # the stem's convolution, and norms but for shortcuts'
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    ),
    decode_head=dict(type='fade_mm.BTSHead'),
    test_cfg=dict(mode='whole'),
)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), eps=1e-3, weight_decay=1e-2),
    paramwise_cfg=dict(custom_keys={'decode_head': dict(decay_mult=0.0)}),
)
max_iters = 302900  # 50 epochs of 24,231 pictures, four a step
# mmengine reaches the last value one step before `end`.
param_scheduler = [
    dict(type='PolyLR', power=0.9, eta_min=1e-5, by_epoch=False, begin=0, end=max_iters + 1)
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=500)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
# The published scores are each the best of a run's.
scores = ['silog', 'abs_rel', 'sq_rel', 'rmse', 'rmse_log', 'log10', 'd1', 'd2', 'd3']
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='CheckpointHook', by_epoch=False, interval=500, max_keep_ckpts=1, save_best=scores
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'),
)
