# Cutting your objects out of pictures: A2U Matting from ImageNet weights. See docs/own_data.md.
data_root = 'data/mine'  # holds fg/, and alpha/ where objects have no transparency
folders = dict(fg_path='fg')  # with alphas: dict(fg_path='fg', alpha_path='alpha')
backgrounds = 'data/backgrounds'  # photographs, there and in folders below
holdout = 10  # every tenth foreground and photograph is not learnt from, but judged by
crop = 320  # what is cut out of a composite for a step, in pixels; twice as much: 4 times the time
batch = 8  # crops a step, at least 2; twice as many: twice the time and memory of a step
iterations = 20000  # steps, the length; decay, validation and checkpoints follow it
channels = 64  # of the network's first layer; a third: a ninth of the work, and no weights fit
pretrained = 'torchvision://resnet34'  # a file of ImageNet weights; None starts from scratch
rate, decoder = 1e-4, 100  # of the layers with weights, and how much faster the new ones learn

step = max(1, iterations // 10)
reading = [dict(type='fade_mm.LoadForeground'), dict(type='fade_mm.LoadBackground')]
composing = [dict(type='fade_mm.MergeFgAndBg'), dict(type='fade_mm.PackMattingInputs')]
changing = [
    dict(type='fade_mm.CompositeFg'),  # sometimes two foregrounds, one over the other
    dict(type='fade_mm.RandomAffine'),
    dict(type='fade_mm.Flip'),
    dict(type='fade_mm.GenerateTrimap'),
    dict(type='fade_mm.CropAroundCenter', crop_size=crop),
    dict(type='fade_mm.RandomJitter'),  # colours; leave it out if yours tell what is what
]
data = dict(
    type='fade_mm.CompositionDataset',
    data_root=data_root,
    data_prefix=folders,
    backgrounds=backgrounds,
    holdout=holdout,
)
train_dataloader = dict(
    batch_size=batch,
    num_workers=2,
    drop_last=True,
    sampler=dict(type='InfiniteSampler'),
    dataset=dict(pipeline=reading + changing + composing, **data),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        test_mode=True, pipeline=[*reading, dict(type='fade_mm.GenerateTrimap'), *composing], **data
    ),
)
val_evaluator = dict(type='fade_mm.MattingMetric')
test_dataloader, test_evaluator = val_dataloader, val_evaluator
model = dict(
    type='fade_mm.A2UMatting',
    base_channels=channels,
    pretrained=pretrained,
    start_head_positive=True,  # else some short trainings learn nothing
)
visualizer = dict(type='fade_mm.MattingVisualizer')
optim_wrapper = dict(
    optimizer=dict(type='Adam', lr=rate),
    paramwise_cfg=dict(
        custom_keys={part: dict(lr_mult=decoder) for part in ('dconv', 'pred', 'short')}
    ),
)
param_scheduler = dict(
    type='MultiStepLR', by_epoch=False, milestones=[7 * step, 9 * step], gamma=0.1
)
train_cfg = dict(by_epoch=False, max_iters=iterations, val_interval=step)
val_cfg = test_cfg = dict()
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=10),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=step, max_keep_ckpts=1),
)
log_processor = dict(by_epoch=False)
randomness = dict(seed=0)
