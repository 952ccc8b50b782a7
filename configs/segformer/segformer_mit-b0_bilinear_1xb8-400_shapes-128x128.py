# The demo: from scratch on generated pictures, in minutes on a CPU.
_base_ = [
    'mmseg::_base_/models/segformer_mit-b0.py',
    'mmseg::_base_/default_runtime.py',
    '../_base_/datasets/shapes_128x128.py',
    '../_base_/schedules/scratch_1500.py',
]
model = dict(
    data_preprocessor=dict(size=(128, 128)),
    decode_head=dict(
        type='fade_mm.SegformerHead',
        num_classes=5,
        norm_cfg=dict(type='BN', requires_grad=True),
    ),
)
train_cfg = dict(max_iters=400, val_interval=400)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', eta_min=0.0, power=1.0, by_epoch=False, begin=50, end=400),
]
default_hooks = dict(checkpoint=dict(interval=100))
env_cfg = dict(cudnn_benchmark=False, dist_cfg=dict(backend='gloo'))
