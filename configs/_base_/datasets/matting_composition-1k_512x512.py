# Adobe Composition-1K (Xu et al., CVPR 2017) by its list files, which lie in data_root: 431
# foregrounds over 82,783 COCO images, and 1,000 composites to test on. See docs/data.md.
data_root = 'data/composition-1k'
train_pipeline = [  # the recipe's nine steps; the last is packing
    dict(type='fade_mm.LoadForeground'),
    dict(type='fade_mm.LoadBackground'),
    dict(type='fade_mm.CompositeFg', prob=0.5),
    dict(type='fade_mm.ResizeFg', scale=(640, 640), prob=0.25),
    dict(type='fade_mm.RandomAffine', degrees=30, scale=(0.8, 1.25), shear=10, flip_ratio=0.5),
    dict(type='fade_mm.Flip', flip_ratio=0.5),
    dict(type='fade_mm.GenerateTrimap', kernel_size=(1, 30)),
    dict(type='fade_mm.CropAroundCenter', crop_size=512),
    dict(type='fade_mm.RandomJitter', hue_range=40),
    dict(type='fade_mm.MergeFgAndBg'),
    dict(type='fade_mm.PackMattingInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='fade_mm.LoadAlpha'),
    dict(type='fade_mm.LoadTrimap'),
    dict(type='fade_mm.PackMattingInputs'),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=8,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='fade_mm.CompositionDataset',
        data_root=data_root,
        data_prefix=dict(fg_path='train_fg.txt', alpha_path='train_alpha.txt'),
        backgrounds=f'{data_root}/train_bg.txt',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='fade_mm.MattingDataset',
        data_root=data_root,
        ann_file='test.txt',
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='fade_mm.MattingMetric')
test_evaluator = val_evaluator
