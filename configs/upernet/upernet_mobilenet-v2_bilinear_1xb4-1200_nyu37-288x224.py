# The baseline of the configs beside it.
_base_ = [
    'mmseg::_base_/default_runtime.py',
    '../_base_/models/upernet_mobilenet-v2.py',
    '../_base_/datasets/nyu37_288x224.py',
    '../_base_/schedules/pretrained_1200.py',
]
model = dict(data_preprocessor=dict(size=(224, 288)), decode_head=dict(num_classes=37))
env_cfg = dict(cudnn_benchmark=False, dist_cfg=dict(backend='gloo'))
