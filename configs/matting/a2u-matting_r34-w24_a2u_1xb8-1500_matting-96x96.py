# A2U's own 32 groups do not divide 24 channels.
_base_ = './a2u-matting_r34-w24_bilinear_1xb8-1500_matting-96x96.py'
model = dict(upsample_cfg=dict(type='a2u', num_groups=8))
