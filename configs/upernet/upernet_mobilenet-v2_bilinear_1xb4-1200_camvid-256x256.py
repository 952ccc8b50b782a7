# The baseline of the configs beside it.
_base_ = [
    'mmseg::_base_/default_runtime.py',
    '../_base_/models/upernet_mobilenet-v2.py',
    '../_base_/datasets/camvid_256x256.py',
    '../_base_/schedules/pretrained_1200.py',
]
model = dict(data_preprocessor=dict(size=(256, 256)), decode_head=dict(num_classes=11))
env_cfg = dict(cudnn_benchmark=False, dist_cfg=dict(backend='gloo'))
