_base_ = './a2u-matting_r34-w24_bilinear_1xb8-1500_matting-96x96.py'
model = dict(upsample_cfg=dict(type='carafe'))
