"""`tools/train.py` and `tools/test.py`, for both libraries, on generated data."""

import json
import pickle

import cv2
import pytest
import torch

from fade_mm.hosts import host_of
from fade_mm.run import load_config
from tests.tools import (
    BCCD,
    CAMVID,
    ROOT,
    SHAPES,
    bccd_options,
    camvid_options,
    config,
    data_options,
    run,
)


def scores(work_dir):
    """The last scalars that mmengine wrote below a work dir."""
    latest = max(work_dir.glob('*/vis_data/scalars.json'), key=lambda p: p.stat().st_mtime)
    return json.loads(latest.read_text().splitlines()[-1])


@pytest.mark.parametrize('upsampler', [pytest.param('bilinear', marks=pytest.mark.slow), 'fade'])
def test_segmentation(upsampler, segmentation_root, tmp_path):
    cfg, work = config(CAMVID, upsampler), tmp_path / 'work'
    options = list(camvid_options(segmentation_root))
    run('train', cfg, '--work-dir', work, '--cfg-options', *options)
    trained = scores(work)
    assert {'mIoU', 'mBIoU'} <= set(trained)
    checkpoint = work / 'iter_4.pth'
    run(
        'test', cfg, checkpoint, '--work-dir', tmp_path / 'test', '--out', tmp_path / 'out',
        '--show-dir', tmp_path / 'show', '--cfg-options', *options,
    )  # fmt: skip
    tested = json.loads(next((tmp_path / 'test').glob('*/*.json')).read_text())
    for name in ('mIoU', 'mBIoU'):
        assert tested[name] == pytest.approx(trained[name])
    labels = cv2.imread(str(tmp_path / 'out/0.png'), cv2.IMREAD_UNCHANGED)
    assert labels.shape == (48, 64)
    assert labels.max() < 3
    assert len(list((tmp_path / 'show').rglob('*.png'))) == 3


@pytest.mark.parametrize('upsampler', [pytest.param('nearest', marks=pytest.mark.slow), 'fade'])
def test_detection(upsampler, detection_root, tmp_path):
    cfg, work = config(BCCD, upsampler), tmp_path / 'work'
    options = list(bccd_options(detection_root))
    run('train', cfg, '--work-dir', work, '--cfg-options', *options)
    assert 'coco/bbox_mAP' in scores(work)
    out, copy = tmp_path / 'out.pkl', work / cfg.name
    trained = copy.read_text()
    shorter = [*options, 'test_dataloader.dataset.indices=1']
    run('test', copy, work / 'epoch_1.pth', '--work-dir', work, '--cfg-options', *shorter)
    assert copy.read_text() == trained
    run(
        'test', cfg, work / 'epoch_1.pth', '--work-dir', tmp_path / 'test', '--out', out,
        '--show-dir', tmp_path / 'show', '--tta', '--cfg-options', *options,
    )  # fmt: skip
    assert len(pickle.loads(out.read_bytes())) == 2
    assert len(list((tmp_path / 'show').rglob('*.png'))) == 2


@pytest.mark.slow
def test_instance_segmentation(tmp_path):
    cfg, work, data = config(SHAPES, 'fade'), tmp_path / 'work', tmp_path / 'shapes'
    run('dataset_converters/make_shapes', data, '--images', 12, '--size', 32)
    ann_file = data / 'annotations/instances_validation.json'
    options = [
        *data_options(data),
        *(f'{split}_evaluator.ann_file={ann_file}' for split in ('val', 'test')),
        'train_cfg.max_epochs=1',
        'boundary_ap=True',
        'default_hooks.checkpoint.save_best=coco/boundary_mAP',
    ]
    run('train', cfg, '--work-dir', work, '--cfg-options', *options)
    assert {'coco/bbox_mAP', 'coco/segm_mAP', 'coco/boundary_mAP'} <= set(scores(work))
    assert list(work.glob('best_coco_boundary_mAP*.pth'))
    out = tmp_path / 'out.pkl'
    run(
        'test', cfg, work / 'epoch_1.pth', '--work-dir', tmp_path / 'test', '--out', out,
        '--show-dir', tmp_path / 'show', '--cfg-options', *options,
    )  # fmt: skip
    assert all('masks' in result['pred_instances'] for result in pickle.loads(out.read_bytes()))
    assert len(list((tmp_path / 'show').rglob('*.png'))) == 2


def test_a_stock_config_takes_fade_from_the_command_line(detection_root, tmp_path):
    options = bccd_options(
        detection_root,
        **{
            'model.neck.type': 'fade_mm.FPN',
            'model.neck.upsample_cfg.type': 'fade',
            'model.backbone.init_cfg': 'None',
            'model.backbone.depth': 18,
            'model.neck.in_channels': '[64,128,256,512]',
        },
    )
    stock = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'
    classes = [
        f"{loader}_dataloader.dataset.metainfo.classes=['RBC','WBC','Platelets']"
        for loader in ('train', 'val', 'test')
    ]
    run(
        'train', stock, '--work-dir', tmp_path, '--cfg-options', *options, *classes,
        'model.roi_head.bbox_head.num_classes=3', 'val_dataloader.dataset.data_prefix.img=images/',
        'train_dataloader.dataset.data_prefix.img=images/',
        'train_dataloader.dataset.ann_file=train.json',
        'val_dataloader.dataset.ann_file=val.json',
    )  # fmt: skip
    weights = torch.load(tmp_path / 'epoch_1.pth', weights_only=False)['state_dict']
    assert 'neck.upsamplers.0.ker_generator.compressor_en.weight' in weights


@pytest.mark.slow
def test_segmentation_tta(segmentation_root, tmp_path):
    cfg = config(CAMVID, 'fade')
    options = list(camvid_options(segmentation_root, iterations=2))
    run('train', cfg, '--work-dir', tmp_path, '--cfg-options', *options)
    arguments = ['test', cfg, tmp_path / 'iter_2.pth', '--tta', '--work-dir', tmp_path / 'test']
    run(*arguments, '--cfg-options', *options)
    assert 'mIoU' in json.loads(next((tmp_path / 'test').glob('*/*.json')).read_text())
    with pytest.raises(SystemExit, match='--tta needs tta_model and tta_pipeline'):
        run(*arguments, '--cfg-options', *options, 'tta_pipeline=None')


@pytest.mark.parametrize(
    ('tool', 'arguments', 'message'),
    [
        ('train', ['nowhere.py'], 'there is no config nowhere.py'),
        ('train', ['mmdett::faster_rcnn/x.py'], 'there is no config mmdett::.*mmdet::PATH'),
        ('train', ['mmdet::faster_rcnn/x.py'], 'there is no config mmdet::'),
        ('train', ['mmdet::x.py'], 'config mmdet::x.py cannot be read'),
        ('train', ['mmyolo::yolov5/x.py'], 'mmyolo is not installed; run: pip install mmyolo'),
        ('train', ['README.md'], 'config README.md cannot be read'),
        ('train', ['configs/_base_/datasets/camvid_256x256.py'], 'has no model'),
        ('train', [config(CAMVID, 'fade'), '--auto-scale-lr'], 'auto_scale_lr.base_batch_size=N'),
        ('train', [config(CAMVID, 'fade'), '--resume', 'x.pth'], 'x.pth .*no such file'),
        ('test', [config(CAMVID, 'fade'), 'x.pth'], 'x.pth .*no such file'),
    ],
)
def test_wrong_arguments_end_with_one_line(tool, arguments, message):
    with pytest.raises(SystemExit, match=message):
        run(tool, *arguments)


@pytest.fixture
def any_file(tmp_path):
    path = tmp_path / 'any.pth'
    path.touch()
    return path


def test_out_and_masks_are_checked_before_anything_is_built(any_file):
    with pytest.raises(SystemExit, match='--out takes a folder for segmentation'):
        run('test', config(CAMVID, 'fade'), any_file, '--out', 'a.pkl')
    with pytest.raises(SystemExit, match=r'--out takes a \.pkl file for this'):
        run('test', config(BCCD, 'fade'), any_file, '--out', 'folder')
    with pytest.raises(SystemExit, match='--tta merges boxes only'):
        run(
            'test',
            config('configs/mask_rcnn/mask-rcnn_r50_fpn_{}_1x_coco.py', 'fade'),
            any_file,
            '--tta',
        )


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('model.neck.type=FPN', r"FPN of the host library.*'fade'; write type='fade_mm\.FPN'"),
        ('model.neck.upsample_cfg=fade', r"must be a dict, e\.g\. dict\(type='fade'\), got 'fade'"),
        ('model.neck.upsample_cfg.type=fad', r"'fad'; the nearest is 'fade'; there are a2u, "),
        ('model.neck.upsample_cfg.kernel=5', r"unexpected keyword argument 'kernel'"),
        ('model.neck.type=fade_mm.Fpn', r'fade_mm\.Fpn.*; there is fade_mm\.FPN'),
    ],
)
def test_mistakes_in_a_config_end_with_one_line(option, message, detection_root, tmp_path):
    with pytest.raises(SystemExit, match=f'error: .*{message}') as stop:
        run(
            'train', config(BCCD, 'fade'), '--work-dir', tmp_path,
            '--cfg-options', *bccd_options(detection_root), option,
        )  # fmt: skip
    assert 'Traceback' not in str(stop.value)


def test_amp_needs_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(SystemExit, match=r'--amp.* needs a GPU'):
        run('train', config(CAMVID, 'fade'), '--amp')


def test_torchvision_weights_say_what_to_install(monkeypatch):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    coco = config('configs/faster_rcnn/faster-rcnn_r50_fpn_{}_1x_coco.py', 'fade')
    message = r'torchvision://resnet50 .*pip install torchvision.*init_cfg=None'
    with pytest.raises(SystemExit, match=message):
        run('train', coco)


PANOPTIC = config('configs/panoptic_fpn/panoptic-fpn_r50_fpn_{}_1x_coco.py', 'fade')


@pytest.mark.parametrize('tool', ['train', 'test'])
def test_panoptic_configs_say_how_to_get_panopticapi(tool, any_file, monkeypatch):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    message = r'CocoPanopticMetric.*pip install git\+https://github\.com/cocodataset/panopticapi'
    with pytest.raises(SystemExit, match=message):
        run(tool, PANOPTIC, *([any_file] if tool == 'test' else []))


def test_only_panoptic_configs_need_panopticapi(monkeypatch):
    boxes, panoptic = (load_config(str(x)) for x in (config(BCCD, 'fade'), PANOPTIC))
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    host_of(boxes).check_run(boxes)
    monkeypatch.setattr('importlib.util.find_spec', lambda name: name)
    host_of(panoptic).check_run(panoptic)


@pytest.mark.parametrize(
    ('host', 'option', 'message'),
    [
        ('maskformer', 'type=MaskFormerHead', r"write type='fade_mm\.MaskFormerHead'"),
        ('maskformer', 'pixel_decoder.type=mmdet.PixelDecoder', r"type='fade_mm\.PixelDecoder'"),
        (
            'mask2former',
            'pixel_decoder.type=mmdet.MSDeformAttnPixelDecoder',
            r"type='fade_mm\.MSDeformAttnPixelDecoder'",
        ),
    ],
)
def test_hosts_that_know_no_upsampler_say_what_to_write(host, option, message):
    name = f'{host}_swin-b-in22k-384x384-pre_fade_8xb2-160k_ade20k-640x640.py'
    with pytest.raises(SystemExit, match=f'of the host library knows no .*{message}'):
        run(
            'train', ROOT / f'configs/{host}/{name}', '--cfg-options', f'model.decode_head.{option}'
        )
