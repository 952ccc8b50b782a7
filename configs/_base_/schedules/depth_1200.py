# As the other pretrained models, but that all of a depth model learns at one rate.
_base_ = './pretrained_1200.py'
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={'head': dict(lr_mult=1.0)},
        upsampler=dict(lr_mult=1.0),
    ),
)
