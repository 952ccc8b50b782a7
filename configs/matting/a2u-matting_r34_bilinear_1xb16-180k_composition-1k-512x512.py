# The recipe of A2U Matting's and FADE's released code (dongdong93/a2u_matting, poppinace/fade).
# There, 16 crops are on two GPUs with synchronised norms: train_dataloader.batch_size=8 and
# sync_bn=torch, with two processes. In place of the authors' encoder (docs/data.md),
# model.pretrained=torchvision://resnet34 is near it; model.pretrained=None starts from scratch.
_base_ = [
    '../_base_/models/a2u_matting_r34.py',
    '../_base_/datasets/matting_composition-1k_512x512.py',
    '../_base_/matting_runtime.py',
]
model = dict(pretrained='pretrained/resnet34.pth.tar', start_upsamplers_alike=True)
# The decoder learns at 0.01 and all else at a hundredth, the encoder and also the upsamplers, whose
# names have none of these parts: as released, FADE's own layers learn at 1e-4.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='Adam', lr=1e-4),
    paramwise_cfg=dict(
        custom_keys={part: dict(lr_mult=100.0) for part in ('dconv', 'pred', 'short')}
    ),
)
param_scheduler = dict(type='MultiStepLR', by_epoch=False, milestones=[120000, 156000], gamma=0.1)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=180000, val_interval=6000)
default_hooks = dict(checkpoint=dict(interval=6000))  # the published FADE is the best of these
env_cfg = dict(cudnn_benchmark=True)
randomness = dict(seed=6)
