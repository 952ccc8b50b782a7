# From scratch, small enough for a CPU; the baseline of the other CamVid configs.
_base_ = [
    'mmseg::_base_/models/segformer_mit-b0.py',
    'mmseg::_base_/default_runtime.py',
    '../_base_/datasets/camvid_256x256.py',
    '../_base_/schedules/scratch_1500.py',
]
model = dict(
    data_preprocessor=dict(size=(256, 256)),
    decode_head=dict(
        type='fade_mm.SegformerHead',
        num_classes=11,
        norm_cfg=dict(type='BN', requires_grad=True),
    ),
)
env_cfg = dict(cudnn_benchmark=False, dist_cfg=dict(backend='gloo'))
