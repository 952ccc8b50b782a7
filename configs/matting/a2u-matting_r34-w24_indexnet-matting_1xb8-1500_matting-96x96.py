# As SAPA, it is better at the full rate (docs/results.md).
_base_ = './a2u-matting_r34-w24_bilinear_1xb8-1500_matting-96x96.py'
model = dict(upsample_cfg=dict(type='indexnet_matting'))
optim_wrapper = dict(paramwise_cfg=dict(upsampler=dict(lr_mult=1.0)))
