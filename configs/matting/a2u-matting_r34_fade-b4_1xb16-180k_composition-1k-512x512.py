_base_ = './a2u-matting_r34_bilinear_1xb16-180k_composition-1k-512x512.py'
model = dict(upsample_cfg=dict(type='fade_b4'))
