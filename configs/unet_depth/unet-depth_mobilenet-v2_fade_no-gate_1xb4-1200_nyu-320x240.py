_base_ = './unet-depth_mobilenet-v2_nearest_1xb4-1200_nyu-320x240.py'
model = dict(decode_head=dict(upsample_cfg=dict(type='fade', gating=False)))
