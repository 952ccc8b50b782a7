dataset = dict(
    data_root='camvid',
    img_suffix='.jpg',
    metainfo=dict(
        classes=(
            'a',
            'b',
            'c',
        ),
        palette=[
            [
                0,
                0,
                0,
            ],
            [
                9,
                9,
                9,
            ],
            [
                99,
                99,
                99,
            ],
        ]),
    reduce_zero_label=False,
    seg_map_suffix='.png',
    type='BaseSegDataset')
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=2, type='CheckpointHook'),
    logger=dict(interval=1, log_metric_by_epoch=False, type='LoggerHook'),
    param_scheduler=dict(type='ParamSchedulerHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    timer=dict(type='IterTimerHook'),
    visualization=dict(type='SegVisualizationHook'))
default_scope = 'mmseg'
env_cfg = dict(cudnn_benchmark=False, dist_cfg=dict(backend='gloo'))
head = dict(
    align_corners=False,
    channels=8,
    dropout_ratio=0.1,
    in_channels=[
        4,
        4,
    ],
    in_index=[
        0,
        1,
    ],
    loss_decode=dict(
        loss_weight=1.0, type='CrossEntropyLoss', use_sigmoid=False),
    norm_cfg=dict(requires_grad=True, type='BN'),
    num_classes=3,
    type='fade_mm.SegformerHead')
launcher = 'none'
load_from = None
log_level = 'INFO'
model = dict(
    auxiliary_head=[
        dict(
            align_corners=False,
            channels=8,
            dropout_ratio=0.1,
            in_channels=[
                4,
                4,
            ],
            in_index=[
                0,
                1,
            ],
            loss_decode=dict(
                loss_weight=1.0, type='CrossEntropyLoss', use_sigmoid=False),
            norm_cfg=dict(requires_grad=True, type='BN'),
            num_classes=3,
            type='fade_mm.SegformerHead',
            upsample_cfg=dict(compressed_channels=8, type='carafe')),
        dict(
            align_corners=False,
            channels=8,
            dropout_ratio=0.1,
            in_channels=[
                4,
                4,
            ],
            in_index=[
                0,
                1,
            ],
            loss_decode=dict(
                loss_weight=1.0, type='CrossEntropyLoss', use_sigmoid=False),
            norm_cfg=dict(requires_grad=True, type='BN'),
            num_classes=3,
            type='fade_mm.SegformerHead',
            upsample_cfg=dict(num_groups=4, type='a2u')),
        dict(
            align_corners=False,
            channels=8,
            dropout_ratio=0.1,
            in_channels=[
                4,
                4,
            ],
            in_index=[
                0,
                1,
            ],
            loss_decode=dict(
                loss_weight=1.0, type='CrossEntropyLoss', use_sigmoid=False),
            norm_cfg=dict(requires_grad=True, type='BN'),
            num_classes=3,
            type='fade_mm.SegformerHead',
            upsample_cfg=dict(type='dysample')),
        dict(
            align_corners=False,
            channels=8,
            dropout_ratio=0.1,
            in_channels=[
                4,
                4,
            ],
            in_index=[
                0,
                1,
            ],
            loss_decode=dict(
                loss_weight=1.0, type='CrossEntropyLoss', use_sigmoid=False),
            norm_cfg=dict(requires_grad=True, type='BN'),
            num_classes=3,
            type='fade_mm.SegformerHead',
            upsample_cfg=dict(kernel_size=3, type='deconv')),
        dict(
            align_corners=False,
            channels=8,
            dropout_ratio=0.1,
            in_channels=[
                4,
                4,
            ],
            in_index=[
                0,
                1,
            ],
            loss_decode=dict(
                loss_weight=1.0, type='CrossEntropyLoss', use_sigmoid=False),
            norm_cfg=dict(requires_grad=True, type='BN'),
            num_classes=3,
            type='fade_mm.SegformerHead',
            upsample_cfg=dict(
                embedding_dim=8, similarity='gated', type='sapa')),
        dict(
            align_corners=False,
            channels=8,
            dropout_ratio=0.1,
            in_channels=[
                4,
                4,
            ],
            in_index=[
                0,
                1,
            ],
            loss_decode=dict(
                loss_weight=1.0, type='CrossEntropyLoss', use_sigmoid=False),
            norm_cfg=dict(requires_grad=True, type='BN'),
            num_classes=3,
            type='fade_mm.SegformerHead',
            upsample_cfg=dict(network='m2o', nonlinear=False,
                              type='indexnet')),
        dict(
            align_corners=False,
            channels=8,
            dropout_ratio=0.1,
            in_channels=[
                4,
                4,
            ],
            in_index=[
                0,
                1,
            ],
            loss_decode=dict(
                loss_weight=1.0, type='CrossEntropyLoss', use_sigmoid=False),
            norm_cfg=dict(requires_grad=True, type='BN'),
            num_classes=3,
            type='fade_mm.SegformerHead',
            upsample_cfg=dict(type='fade_lite')),
    ],
    backbone=dict(
        drop_path_rate=0.1,
        embed_dims=4,
        in_channels=3,
        mlp_ratio=2,
        num_heads=[
            1,
            1,
            1,
            1,
        ],
        num_layers=[
            1,
            1,
            1,
            1,
        ],
        num_stages=4,
        out_indices=(
            0,
            1,
            2,
            3,
        ),
        patch_sizes=[
            7,
            3,
            3,
            3,
        ],
        qkv_bias=True,
        sr_ratios=[
            8,
            4,
            2,
            1,
        ],
        type='MixVisionTransformer'),
    data_preprocessor=dict(
        bgr_to_rgb=True,
        mean=[
            123.675,
            116.28,
            103.53,
        ],
        pad_val=0,
        seg_pad_val=255,
        size=(
            48,
            64,
        ),
        std=[
            58.395,
            57.12,
            57.375,
        ],
        type='SegDataPreProcessor'),
    decode_head=dict(
        align_corners=False,
        channels=8,
        dropout_ratio=0.1,
        in_channels=[
            4,
            4,
        ],
        in_index=[
            0,
            1,
        ],
        loss_decode=dict(
            loss_weight=1.0, type='CrossEntropyLoss', use_sigmoid=False),
        norm_cfg=dict(requires_grad=True, type='BN'),
        num_classes=3,
        type='fade_mm.SegformerHead',
        upsample_cfg=dict(embedding_dim=8, type='fade')),
    test_cfg=dict(mode='whole'),
    train_cfg=dict(),
    type='EncoderDecoder')
norm_cfg = dict(requires_grad=True, type='BN')
optim_wrapper = dict(
    optimizer=dict(lr=0.01, momentum=0.0, type='SGD', weight_decay=0.0),
    type='OptimWrapper')
param_scheduler = [
    dict(
        begin=0, by_epoch=False, end=4, eta_min=0.0, power=1.0, type='PolyLR'),
]
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(reduce_zero_label=False, type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
randomness = dict(seed=0)
resume = False
test_cfg = dict(type='TestLoop')
test_dataloader = dict(
    batch_size=1,
    dataset=dict(
        data_prefix=dict(
            img_path='images/validation',
            seg_map_path='annotations/validation'),
        data_root='camvid',
        img_suffix='.jpg',
        metainfo=dict(
            classes=(
                'a',
                'b',
                'c',
            ),
            palette=[
                [
                    0,
                    0,
                    0,
                ],
                [
                    9,
                    9,
                    9,
                ],
                [
                    99,
                    99,
                    99,
                ],
            ]),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(reduce_zero_label=False, type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ],
        reduce_zero_label=False,
        seg_map_suffix='.png',
        type='BaseSegDataset'),
    num_workers=0,
    persistent_workers=False,
    sampler=dict(shuffle=False, type='DefaultSampler'))
test_evaluator = [
    dict(iou_metrics=[
        'mIoU',
    ], type='IoUMetric'),
]
train_cfg = dict(max_iters=2, type='IterBasedTrainLoop', val_interval=2)
train_dataloader = dict(
    batch_size=2,
    dataset=dict(
        data_prefix=dict(
            img_path='images/training', seg_map_path='annotations/training'),
        data_root='camvid',
        img_suffix='.jpg',
        metainfo=dict(
            classes=(
                'a',
                'b',
                'c',
            ),
            palette=[
                [
                    0,
                    0,
                    0,
                ],
                [
                    9,
                    9,
                    9,
                ],
                [
                    99,
                    99,
                    99,
                ],
            ]),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(reduce_zero_label=False, type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ],
        reduce_zero_label=False,
        seg_map_suffix='.png',
        type='BaseSegDataset'),
    num_workers=0,
    persistent_workers=False,
    sampler=dict(shuffle=True, type='InfiniteSampler'))
val_cfg = dict(type='ValLoop')
val_dataloader = dict(
    batch_size=1,
    dataset=dict(
        data_prefix=dict(
            img_path='images/validation',
            seg_map_path='annotations/validation'),
        data_root='camvid',
        img_suffix='.jpg',
        metainfo=dict(
            classes=(
                'a',
                'b',
                'c',
            ),
            palette=[
                [
                    0,
                    0,
                    0,
                ],
                [
                    9,
                    9,
                    9,
                ],
                [
                    99,
                    99,
                    99,
                ],
            ]),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(reduce_zero_label=False, type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ],
        reduce_zero_label=False,
        seg_map_suffix='.png',
        type='BaseSegDataset'),
    num_workers=0,
    persistent_workers=False,
    sampler=dict(shuffle=False, type='DefaultSampler'))
val_evaluator = [
    dict(iou_metrics=[
        'mIoU',
    ], type='IoUMetric'),
]
work_dir = 'work'
