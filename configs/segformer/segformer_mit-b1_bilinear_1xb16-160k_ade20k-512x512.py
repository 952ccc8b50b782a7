# The head and the recipe of the authors' logs (poppinace/fade), on one GPU.
_base_ = 'mmseg::segformer/segformer_mit-b1_8xb2-160k_ade20k-512x512.py'
model = dict(
    backbone=dict(type='fade_mm.MixVisionTransformer', conv_norm_eps=1e-5),
    decode_head=dict(
        type='fade_mm.SegformerHead',
        plain_projections=True,
        norm_cfg=dict(type='BN', requires_grad=True),
    ),
)
# The authors' names of stage norms contain 'norm', mmsegmentation's do not.
stage_norms = {f'layers.{stage}.2.': dict(decay_mult=0.0) for stage in range(4)}
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=stage_norms))
# The polynomial decay starts at once and multiplies the warm-up. mmengine reaches the last value
# one step before `end`: the authors' warm-up lasts 1500 iterations, their decay 160000.
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1501),
    dict(type='PolyLR', eta_min=0.0, power=1.0, by_epoch=False, begin=0, end=160001),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(2048, 512), keep_ratio=True),
    dict(type='ResizeToMultiple', size_divisor=32),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(batch_size=16, num_workers=4)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = [
    dict(type='IoUMetric', iou_metrics=['mIoU']),
    dict(type='fade_mm.BoundaryIoUMetric'),
]
test_evaluator = val_evaluator
# The published scores are the best of a run's.
default_hooks = dict(checkpoint=dict(save_best='mIoU'))
