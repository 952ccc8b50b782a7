# NYU Depth v2's labelled set at half size: 795 training and 327 validation pictures of 320x240, in
# ADE20K's folder layout; 37 classes, as in SUN RGB-D.
dataset_type = 'BaseSegDataset'
data_root = 'data/nyu'
crop_size = (224, 288)
metainfo = dict(
    classes=(
        'wall',
        'floor',
        'cabinet',
        'bed',
        'chair',
        'sofa',
        'table',
        'door',
        'window',
        'bookshelf',
        'picture',
        'counter',
        'blinds',
        'desk',
        'shelves',
        'curtain',
        'dresser',
        'pillow',
        'mirror',
        'floor mat',
        'clothes',
        'ceiling',
        'books',
        'refrigerator',
        'television',
        'paper',
        'towel',
        'shower curtain',
        'box',
        'whiteboard',
        'person',
        'night stand',
        'toilet',
        'sink',
        'lamp',
        'bathtub',
        'bag',
    ),
)
load = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=False),
    dict(type='fade_mm.IgnoreLabels', labels=(37, 38)),  # other structure, other property
]
train_pipeline = [
    *load,
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [*load, dict(type='PackSegInputs')]
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale_factor=r, keep_ratio=True) for r in (0.75, 1.0, 1.25)],
            [dict(type='RandomFlip', prob=prob, direction='horizontal') for prob in (0.0, 1.0)],
            [load[1]],
            [load[2]],
            [dict(type='PackSegInputs')],
        ],
    ),
]
dataset = dict(
    type=dataset_type,
    data_root=data_root,
    metainfo=metainfo,
    img_suffix='.jpg',
    seg_map_suffix='.png',
    reduce_zero_label=False,
)
train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        pipeline=train_pipeline,
        **dataset,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        pipeline=test_pipeline,
        **dataset,
    ),
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type='IoUMetric', iou_metrics=['mIoU']),
    dict(type='fade_mm.BoundaryIoUMetric'),
]
test_evaluator = val_evaluator
