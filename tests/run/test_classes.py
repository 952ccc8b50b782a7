"""Class counts: the stock models of both libraries pass, and wrong counts are named."""

from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset, ConcatDataset
from mmengine.model import BaseTTAModel
from mmengine.registry import DATASETS, MODELS, DefaultScope
from torch import nn

from fade_mm.run import SetupError
from fade_mm.run.classes import check_classes
from tests.tools import CAMVID, camvid_options, config, run

UNLIKE_THEIR_DATA = [  # heads and data sets that count other things, or the same in another way
    'mmdet::bytetrack/bytetrack_yolox_x_8xb4-80e_crowdhuman-mot17halftrain_test-mot17halfval.py',
    'mmdet::deepsort/deepsort_faster-rcnn_r50_fpn_8xb2-4e_mot17halftrain_test-mot17halfval.py',
    'mmdet::faster_rcnn/faster-rcnn_r50_fpn_fcos-rpn_1x_coco.py',
    'mmdet::htc/htc_r50_fpn_1x_coco.py',
    'mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco-panoptic.py',
    'mmdet::mm_grounding_dino/rtts/grounding_dino_swin-t_finetune_8xb4_1x_rtts.py',
    'mmdet::ocsort/ocsort_yolox_x_8xb4-amp-80e_crowdhuman-mot17halftrain_test-mot17halfval.py',
    'mmdet::panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py',
    'mmdet::qdtrack/qdtrack_faster-rcnn_r50_fpn_8xb2-4e_mot17halftrain_test-mot17halfval.py',
    'mmdet::rpn/rpn_r50_fpn_1x_coco.py',
    'mmdet::sort/sort_faster-rcnn_r50_fpn_8xb2-4e_mot17halftrain_test-mot17halfval.py',
    'mmdet::strongsort/strongsort_yolox_x_8xb4-80e_crowdhuman-mot17halftrain_test-mot17halfval.py',
    'mmseg::san/san-vit-b16_voc12aug-640x640.py',
    'mmseg::san/san-vit-l14_voc12aug-640x640.py',
    'mmseg::stdc/stdc1_4xb12-80k_cityscapes-512x1024.py',
    'mmseg::vpd/vpd_sd_4xb8-25k_nyu-480x480.py',
]
PARTS = (  # of models, that have nothing to do with classes
    'backbone',
    'language_model',
    'reid',
    'text_encoder',
    'tracker',
)
SAMPLES = {  # what the classes of data sets, the first that fits, put into their samples
    'mmdet': {
        'BaseVideoDataset': dict(images=[]),
        'ReIDDataset': dict(gt_label=0),
        'BaseDetDataset': dict(instances=[]),
        'BaseSegDataset': dict(seg_map_path=''),
        'CocoCaptionDataset': dict(gt_caption=''),
        'RefCocoDataset': dict(instances=[], text=''),
    },
    'mmseg': {
        'NYUDataset': dict(depth_map_path=''),
        'BaseSegDataset': dict(seg_map_path=''),
        'BaseCDDataset': dict(seg_map_path=''),
    },
}


class Absent(nn.Module):
    """Stands in for `PARTS`."""

    num_branch, test_branch_idx = 3, 1  # TridentNet's
    language_backbone = SimpleNamespace(body=SimpleNamespace(language_dim=768))

    def __init__(self, **kwargs):
        super().__init__()


class Samples(BaseDataset):
    """A data set of one sample."""

    def __init__(self, sample, metainfo):
        self.sample = sample
        super().__init__(metainfo=metainfo, serialize_data=False)

    def load_data_list(self):
        return [self.sample]


@pytest.fixture(autouse=True)
def absent():
    MODELS.register_module(module=Absent, force=True)
    yield
    MODELS.module_dict.pop('Absent')


def folder_of(library):
    module = pytest.importorskip(library)
    for part in ('models', 'datasets'):
        import_module(f'{library}.{part}')
    return Path(module.__file__).parent / '.mim/configs'


def without_other_parts(node):
    """A model's config without what takes time, packages or files and has no classes."""
    if isinstance(node, list | tuple):
        return type(node)(without_other_parts(item) for item in node)
    if not isinstance(node, dict):
        return node
    node = {k: dict(type='Absent') if k in PARTS and v else v for k, v in node.items()}
    for key in ('data_preprocessor', 'teacher_ckpt', 'cmc', 'postprocess_model'):
        node.pop(key, None)
    if 'num_cp' in node:
        node['num_cp'] = 0  # checkpointing, by another package
    if node.get('type') == 'MMSyncBN':
        node['type'] = 'BN'
    return {key: without_other_parts(value) for key, value in node.items()}


def build(cfg, library):
    node = without_other_parts(cfg.model.to_dict())
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope') or library):
        try:
            with torch.device('meta'):
                return MODELS.build(Config(node))
        except RuntimeError:  # some constructors compute
            return MODELS.build(Config(node))


def datasets_of(node, library):
    """The data sets of a config, of one sample each, without their files."""
    for child in node.get('datasets', [node['dataset']] if 'dataset' in node else []):
        yield from datasets_of(child, library)
    if 'datasets' in node or 'dataset' in node:
        return
    cls = node['type']
    if isinstance(cls, str):
        cls = DATASETS.get(cls if '.' in cls else f'{library}.{cls}')
    bases = {base.__name__ for base in cls.__mro__}
    sample = next(sample for name, sample in SAMPLES[library].items() if name in bases)
    if node.get('return_classes'):
        sample = {**sample, 'text': ()}
    yield Samples(sample, {**cls.METAINFO, **(node.get('metainfo') or {})})


def check_stock(path, library):
    cfg = Config.fromfile(str(path), import_custom_modules=False)
    if not cfg.get('model'):
        return
    model = build(cfg, library)
    for split in ('train', 'val', 'test'):
        loader = cfg.get(f'{split}_dataloader')
        for dataset in datasets_of(loader, library) if loader else ():
            check_classes(model, dataset, split)


@pytest.mark.parametrize('name', UNLIKE_THEIR_DATA)
def test_stock_models_that_count_something_else_pass(name):
    library, path = name.split('::')
    check_stock(folder_of(library) / path, library)


@pytest.mark.slow
@pytest.mark.parametrize(('library', 'enough'), [('mmdet', 780), ('mmseg', 680)])
def test_all_stock_models_pass(library, enough, monkeypatch):
    folder = folder_of(library)
    monkeypatch.chdir(folder.parent)  # some configs name others from there
    refused, passed = {}, 0
    for path in sorted(folder.rglob('*.py')):
        if '_base_' in path.parts:
            continue
        try:
            check_stock(path, library)
            passed += 1
        except SetupError as error:
            refused[str(path.relative_to(folder))] = str(error)
        except Exception as error:  # files and packages that are missing, faults of theirs
            print(path.relative_to(folder), type(error).__name__, str(error)[:100])
    assert not refused
    assert passed >= enough


ABC = dict(classes=('a', 'b', 'c'))
FASTER_RCNN = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'
PSPNET = 'mmseg::pspnet/pspnet_r50-d8_4xb2-40k_cityscapes-512x1024.py'


def stock(name):
    library, path = name.split('::')
    return build(Config.fromfile(str(folder_of(library) / path)), library)


@pytest.mark.parametrize(
    ('name', 'key', 'count'),
    [
        (FASTER_RCNN, 'roi_head.bbox_head', 80),
        ('mmdet::cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py', 'roi_head.bbox_head.0', 80),
        ('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', 'bbox_head', 80),
        ('mmdet::solo/solo_r50_fpn_1x_coco.py', 'mask_head', 80),
        ('mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py', 'panoptic_head', 80),
        ('mmdet::soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco.py',
         'student.roi_head.bbox_head', 80),
    ],
)  # fmt: skip
def test_a_detector_of_other_classes_is_refused(name, key, count):
    message = (
        rf'model\.{key}\.num_classes is {count}, but the data set of val_dataloader has 3 classes '
        rf'\(a, b, c\); set model\.{key}\.num_classes=3, .*metainfo\.classes, .*check_classes=False'
    )
    with pytest.raises(SetupError, match=message):
        check_classes(stock(name), Samples(dict(instances=[]), ABC), 'val_dataloader')


@pytest.mark.parametrize('wrong', ['decode_head', 'auxiliary_head'])
def test_a_segmentor_of_other_classes_is_refused(wrong):
    model = stock(PSPNET)
    for name in {'decode_head', 'auxiliary_head'} - {wrong}:
        getattr(model, name).num_classes = 3
    with pytest.raises(SetupError, match=rf'model\.{wrong}\.num_classes is 19, .* has 3 classes'):
        check_classes(model, Samples(dict(seg_map_path='x.png'), ABC), 'train_dataloader')


def test_each_of_several_data_sets_is_compared():
    fitting, other = (
        Samples(dict(instances=[]), dict(classes=[str(i) for i in range(count)]))
        for count in (80, 81)
    )
    check_classes(stock(FASTER_RCNN), fitting, 'train_dataloader')
    both = ConcatDataset([fitting, other], ignore_keys='classes')
    with pytest.raises(SetupError, match='has 81 classes'):
        check_classes(stock(FASTER_RCNN), both, 'train_dataloader')


def test_models_inside_of_test_time_augmentation_are_compared_by_their_own_names():
    class Augmented(BaseTTAModel):
        def merge_preds(self, data_samples_list):
            pass

    with pytest.raises(SetupError, match=r'model\.decode_head\.num_classes is 19'):
        check_classes(
            Augmented(stock(PSPNET)), Samples(dict(seg_map_path='x.png'), ABC), 'test_dataloader'
        )


@pytest.mark.parametrize(
    ('sample', 'metainfo'),
    [
        (dict(depth_map_path='x.png'), ABC),
        (dict(alpha_path='x.png'), ABC),
        (dict(gt_label=0), ABC),
        (dict(images=[]), ABC),
        (dict(instances=[], text=('a', 'b', 'c')), ABC),
        (dict(instances=[]), dict(ABC, thing_classes=('a', 'b'))),
        (dict(instances=[]), dict()),
    ],
    ids=['depth', 'matting', 'identities', 'videos', 'text', 'panoptic', 'nameless'],
)
def test_labels_that_are_not_the_classes_are_left_alone(sample, metainfo):
    check_classes(stock(FASTER_RCNN), Samples(sample, metainfo), 'train_dataloader')


def test_models_that_read_the_names_of_classes_are_left_alone():
    model = stock(FASTER_RCNN)
    model.language_model = Absent()
    check_classes(model, Samples(dict(instances=[]), ABC), 'train_dataloader')


def test_masks_of_no_class_are_left_alone():
    model = stock('mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py')
    model.roi_head.bbox_head.num_classes = 3
    samples = Samples(dict(instances=[]), ABC)
    with pytest.raises(SetupError, match=r'mask_head\.num_classes is 80'):
        check_classes(model, samples, 'train_dataloader')
    model.roi_head.mask_head.class_agnostic = True
    check_classes(model, samples, 'train_dataloader')


@pytest.mark.slow
def test_the_check_can_be_left_out(segmentation_root, tmp_path):
    options = camvid_options(segmentation_root, 2, **{'model.decode_head.num_classes': 4})
    arguments = ['train', config(CAMVID, 'bilinear'), '--work-dir', tmp_path]
    arguments += ['--cfg-options', *options]
    with pytest.raises(SystemExit, match='num_classes is 4, but the data set of train_dataloader'):
        run(*arguments)
    run(*arguments, 'check_classes=False')
    assert (tmp_path / 'iter_2.pth').exists()
