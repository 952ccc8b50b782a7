# A plain U-shaped decoder, in which FADE's gate can work; the baseline of the configs beside it.
_base_ = [
    'mmseg::_base_/default_runtime.py',
    '../_base_/models/depth_mobilenet-v2.py',
    '../_base_/datasets/nyu_320x240.py',
    '../_base_/schedules/depth_1200.py',
]
model = dict(decode_head=dict(type='fade_mm.UNetDepthHead', channels=48))
env_cfg = dict(cudnn_benchmark=False, dist_cfg=dict(backend='gloo'))
