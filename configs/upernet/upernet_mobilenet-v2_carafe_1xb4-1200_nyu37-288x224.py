_base_ = './upernet_mobilenet-v2_bilinear_1xb4-1200_nyu37-288x224.py'
model = dict(decode_head=dict(upsample_cfg=dict(type='carafe')))
optim_wrapper = dict(paramwise_cfg=dict(upsampler=dict(lr_mult=1.0)))
