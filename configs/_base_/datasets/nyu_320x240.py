# NYU Depth v2's labelled set at half size: 795 training and 327 validation pictures of 320x240, of
# which tools/dataset_converters/depth_from_8bit.py makes depth as PNGs in millimetres.
data_root = 'data/nyu'
crop_size = (208, 272)
load = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadDepthAnnotation', depth_rescale_factor=1e-3),
]
train_pipeline = [
    *load,
    dict(type='fade_mm.FixedCrop', box=(22, 236, 21, 304)),  # without the white frame
    dict(type='RandomRotate', prob=1.0, degree=2.5, pad_val=0, seg_pad_val=0),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='fade_mm.RandomGammaBrightnessColor', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [*load, dict(type='PackSegInputs')]
train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='fade_mm.DepthDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/training', depth_map_path='depth/training'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='fade_mm.DepthDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/validation', depth_map_path='depth/validation'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='fade_mm.DepthMetric', min_depth=1e-3, max_depth=10.0, crop='eigen', border=4
)
test_evaluator = val_evaluator
