# Goes on from the trained bilinear model, as the FADE config beside it does.
_base_ = './segformer_mit-b0_bilinear_1xb4-1500_camvid-256x256.py'
load_from = 'work_dirs/segformer_mit-b0_bilinear_1xb4-1500_camvid-256x256/iter_1500.pth'
# Layers that are new learn faster than those that are trained already.
optim_wrapper = dict(
    optimizer=dict(lr=1e-4),
    paramwise_cfg=dict(
        custom_keys={'head': dict(lr_mult=1.0), 'upsamplers': dict(lr_mult=10.0)},
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', eta_min=0.0, power=1.0, by_epoch=False, begin=50, end=500),
]
train_cfg = dict(max_iters=500, val_interval=500)
