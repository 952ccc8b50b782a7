_base_ = './segformer_mit-b0_bilinear_finetune_1xb4-500_camvid-256x256.py'
model = dict(decode_head=dict(upsample_cfg=dict(type='fade')))
