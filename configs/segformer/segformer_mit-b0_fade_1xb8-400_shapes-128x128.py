_base_ = './segformer_mit-b0_bilinear_1xb8-400_shapes-128x128.py'
model = dict(decode_head=dict(upsample_cfg=dict(type='fade')))
