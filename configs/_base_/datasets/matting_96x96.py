# Mattes over photographs, in crops for a CPU; see docs/data.md. Every sixth foreground and every
# sixth photograph is left out of training, for the composites to validate on; natural pictures are
# beside them.
data_root = 'data/matting'
backgrounds = 'data/coco128/images'
train_pipeline = [
    dict(type='fade_mm.LoadForeground'),
    dict(type='fade_mm.LoadBackground'),
    dict(type='fade_mm.CompositeFg'),
    dict(type='fade_mm.ResizeFg'),
    dict(type='fade_mm.RandomAffine'),
    dict(type='fade_mm.Flip'),
    dict(type='fade_mm.GenerateTrimap'),
    dict(type='fade_mm.CropAroundCenter', crop_size=96),
    dict(type='fade_mm.RandomJitter'),
    dict(type='fade_mm.MergeFgAndBg'),
    dict(type='fade_mm.PackMattingInputs'),
]
composite_pipeline = [
    dict(type='fade_mm.LoadForeground'),
    dict(type='fade_mm.LoadBackground'),
    dict(type='fade_mm.GenerateTrimap'),
    dict(type='fade_mm.MergeFgAndBg'),
    dict(type='fade_mm.PackMattingInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='fade_mm.LoadAlpha'),
    dict(type='fade_mm.LoadTrimap'),
    dict(type='fade_mm.PackMattingInputs'),
]
foregrounds = dict(
    type='fade_mm.CompositionDataset',
    data_root=data_root,
    data_prefix=dict(fg_path='training/fg', alpha_path='training/alpha'),
    backgrounds=backgrounds,
    holdout=6,
)
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(pipeline=train_pipeline, **foregrounds),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ConcatDataset',
        datasets=[
            dict(test_mode=True, subset='composites', pipeline=composite_pipeline, **foregrounds),
            dict(
                type='fade_mm.MattingDataset',
                data_root=f'{data_root}/validation',
                subset='natural',
                test_mode=True,
                pipeline=test_pipeline,
            ),
        ],
    ),
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type='fade_mm.MattingMetric', subset='composites'),
    dict(type='fade_mm.MattingMetric', subset='natural', prefix='natural'),
]
test_evaluator = val_evaluator
