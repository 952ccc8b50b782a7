_base_ = './segformer_mit-b0_bilinear_1xb4-1500_camvid-256x256.py'
model = dict(decode_head=dict(upsample_cfg=dict(type='sapa_d')))
