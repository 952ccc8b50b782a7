# The network of the published +12.60M and +30.65G; indexnet-m2o is that of the log.
_base_ = './segformer_mit-b1_bilinear_1xb16-160k_ade20k-512x512.py'
model = dict(decode_head=dict(upsample_cfg=dict(type='indexnet')))
