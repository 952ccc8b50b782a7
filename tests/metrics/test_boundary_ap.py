"""Boundary AP against an independent computation with scipy, and against mmdetection's mask AP."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from pycocotools import mask as coder
from scipy import ndimage

from fade_mm.errors import SetupError
from fade_mm.metrics import BoundaryAPMetric
from fade_mm.metrics.boundary_eval import boundary_of
from fade_mm.run import load_config
from fade_mm.run.mmengine_fixes import tell_rules
from tests.tools import ROOT

NUCLEI = ROOT.parent / 'shared/data/nuclei_dsb2018/val.json'
THRESHOLDS = np.linspace(0.5, 0.95, 10)


def outline(mask, ratio=0.02):
    """The boundary band of a boolean mask, by scipy."""
    width = max(1, round(ratio * (mask.shape[0] ** 2 + mask.shape[1] ** 2) ** 0.5))
    square = np.ones((3, 3), bool)
    return mask & ~ndimage.binary_erosion(mask, square, iterations=width, border_value=0)


def iou(a, b):
    union = (a | b).sum()
    return (a & b).sum() / union if union else 0.0


def overlap(found, truth, is_crowd):
    if is_crowd:
        return (found & truth).sum() / max(found.sum(), 1)
    of_masks = iou(found, truth)
    return of_masks and min(of_masks, iou(outline(found), outline(truth)))


def average_precision(images, classes, thresholds=THRESHOLDS, limit=100):
    """COCO's AP over all sizes, from its description: greedy matching, 101 points of recall.

    Args:
        images: Pairs of truths (mask, class, is_crowd) and predictions (mask, class, score).
    """
    aps = []
    for label in range(classes):
        pairs = []
        for truths, found in images:
            truths = [(mask, crowd) for mask, kind, crowd in truths if kind == label]
            found = sorted((x for x in found if x[1] == label), key=lambda x: -x[2])[:limit]
            table = [[overlap(x[0], *truth) for truth in truths] for x in found]
            pairs.append((truths, found, table))
        total = sum(not crowd for truths, _, _ in pairs for _, crowd in truths)
        if not total:
            continue
        for threshold in thresholds:
            hits = []  # (score, whether it is right)
            for truths, found, table in pairs:
                free = {i for i, (_, crowd) in enumerate(truths) if not crowd}
                crowds = {i for i, (_, crowd) in enumerate(truths) if crowd}
                for (_, _, score), row in zip(found, table, strict=True):
                    best = max(free, key=lambda i: (row[i], i), default=None)
                    if best is not None and row[best] >= threshold:
                        free.remove(best)
                        hits.append((score, True))
                    elif not any(row[i] >= threshold for i in crowds):
                        hits.append((score, False))
            hits.sort(key=lambda x: -x[0])
            right = np.cumsum([x[1] for x in hits])
            precision, recall = right / np.arange(1, len(hits) + 1), right / total
            points = [precision[recall >= r].max(initial=0) for r in np.linspace(0, 1, 101)]
            aps.append(np.mean(points))
    return np.mean(aps)


def rle(mask):
    coded = coder.encode(np.asfortranarray(mask.astype(np.uint8)))
    return dict(coded, counts=coded['counts'].decode())


def written(images, classes, path):
    """An annotation file of the truths."""
    annotations, sizes = [], []
    for index, (truths, found) in enumerate(images):
        h, w = (truths or found)[0][0].shape
        sizes.append(dict(id=index, height=h, width=w, file_name=f'{index}.jpg'))
        for mask, label, crowd in truths:
            coded = rle(mask)
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=index,
                    category_id=label + 1,
                    segmentation=coded,
                    area=float(mask.sum()),
                    bbox=list(coder.toBbox(coded)),
                    iscrowd=int(crowd),
                )
            )
    names = [dict(id=i + 1, name=f'class {i}') for i in range(classes)]
    content = dict(images=sizes, annotations=annotations, categories=names)
    path.write_text(json.dumps(content))
    return str(path)


def samples(images):
    """Predictions as mmdetection's models give them to metrics."""
    for index, (truths, found) in enumerate(images):
        h, w = (truths or found)[0][0].shape
        masks = np.array([x[0] for x in found]).reshape(-1, h, w).astype(bool)
        instances = dict(
            masks=torch.from_numpy(masks),
            labels=torch.tensor([x[1] for x in found], dtype=torch.long),
            scores=torch.tensor([x[2] for x in found], dtype=torch.float64),
            bboxes=torch.zeros(len(found), 4),
        )
        yield dict(img_id=index, ori_shape=(h, w), pred_instances=instances)


def evaluate(images, classes, path, cls=BoundaryAPMetric, **kwargs):
    metric = cls(ann_file=written(images, classes, path), **kwargs)
    metric.dataset_meta = dict(classes=[f'class {i}' for i in range(classes)])
    for sample in samples(images):
        metric.process({}, [sample])
    return metric.evaluate(len(images))


def blobs(rng, shape, count):
    """Blobs of all sizes, some cut off by the frame, some a pixel wide."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    for _ in range(count):
        y, x = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        a, b = rng.uniform(0.6, shape[0] / 3, 2)
        yield ((rows - y) / a) ** 2 + ((columns - x) / b) ** 2 <= 1


def disturbed(rng, mask):
    """A mask as a model may find it."""
    shifted = np.roll(mask, rng.integers(-1, 2, 2), (0, 1))
    others = [shifted, ndimage.binary_dilation(mask), ndimage.binary_erosion(mask)]
    return others[rng.integers(3)] if rng.random() < 0.4 else mask


def generated(seed, count=6, classes=2):
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        shape = tuple(rng.integers(24, 200, 2))
        truths = [
            (mask, int(rng.integers(classes)), bool(rng.random() < 0.15))
            for mask in blobs(rng, shape, 8)
            if mask.any()
        ]
        found = [
            (disturbed(rng, mask), label, rng.random())
            for mask, label, _ in truths
            if rng.random() < 0.9
        ]
        found += [(mask, 0, rng.random()) for mask in blobs(rng, shape, 1)]
        images.append((truths, found))
    return images


@pytest.mark.parametrize('seed', range(4))
def test_matches_an_independent_computation(seed, tmp_path):
    images = generated(seed)
    expected = average_precision(images, 2)
    got = evaluate(images, 2, tmp_path / 'truth.json')
    assert 0.1 < expected < 0.9
    assert got['coco/boundary_mAP'] == pytest.approx(expected, abs=5.1e-5)
    for score, threshold in (('mAP_50', 0.5), ('mAP_75', 0.75)):
        expected = average_precision(images, 2, [threshold])
        assert got[f'coco/boundary_{score}'] == pytest.approx(expected, abs=5.1e-5)


def nuclei(most, count=3):
    """The data set's smaller images, with what a model might find in them."""
    if not NUCLEI.is_file():
        pytest.skip(f'the data set of nuclei is not at {NUCLEI.parent}')
    content = json.loads(NUCLEI.read_text())
    rng = np.random.default_rng(0)
    images = []
    for picture in content['images']:
        size = picture['height'], picture['width']
        masks = [
            coder.decode(coder.frPyObjects(x['segmentation'], *size)).astype(bool)
            for x in content['annotations']
            if x['image_id'] == picture['id']
        ]
        if len(masks) > most or len(images) == count:
            continue
        found = [(disturbed(rng, mask), 0, rng.random()) for mask in masks if rng.random() < 0.9]
        images.append(([(mask, 0, False) for mask in masks], found))
    return images


def test_matches_an_independent_computation_on_nuclei(tmp_path):
    images = nuclei(most=25)
    got = evaluate(images, 1, tmp_path / 'truth.json')['coco/boundary_mAP']
    assert sum(len(truths) for truths, _ in images) > 20
    assert got == pytest.approx(average_precision(images, 1), abs=5.1e-5)


def test_with_bands_as_wide_as_the_image_it_is_mmdetections_mask_ap(tmp_path):
    """Then a mask is its own boundary: every score, class and limit as in CocoMetric."""
    from mmdet.evaluation import CocoMetric

    images = generated(7, count=12, classes=3)
    kwargs = dict(classwise=True, proposal_nums=(1, 10, 100))
    theirs = evaluate(images, 3, tmp_path / 't', CocoMetric, metric='segm', **kwargs)
    ours = evaluate(images, 3, tmp_path / 't', dilation_ratio=1.0, **kwargs)
    for name in ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l'):
        assert ours[f'coco/boundary_{name}'] == pytest.approx(theirs[f'coco/segm_{name}'], abs=6e-4)
    for label in range(3):
        expected = theirs[f'coco/class {label}_precision']
        got = ours[f'coco/class {label}_boundary_precision']
        assert got == pytest.approx(expected, abs=6e-4)
    narrow = evaluate(images, 3, tmp_path / 't', **kwargs)
    assert narrow['coco/boundary_mAP'] < ours['coco/boundary_mAP']


@pytest.mark.parametrize('shape', [(40, 60), (97, 33)], ids=str)
def test_boundaries_are_scipys(shape):
    rng = np.random.default_rng(0)
    masks = [*blobs(rng, shape, 40), np.zeros(shape, bool), np.ones(shape, bool)]
    masks += [ndimage.gaussian_filter(rng.normal(size=shape), 3) > 0]  # with holes
    for mask in masks:
        for ratio in (0.001, 0.02, 0.1, 0.4):
            got = coder.decode(boundary_of(rle(mask), ratio)).astype(bool)
            assert (got == outline(mask, ratio)).all()


def square(y, x, size, shape=(100, 100)):
    mask = np.zeros(shape, bool)
    mask[y : y + size, x : x + size] = True
    return mask


def test_a_shifted_square_by_hand(tmp_path):
    """Squares of 60, 2 pixels apart, bands of 3: masks overlap by 0.935, bands by 0.299.

    58 * 60 of 62 * 60 pixels. Bands have 60^2 - 54^2 = 684 pixels; in common are 2 * 3 * 58 along
    the shift, less what is not there, and 2 * 1 * 54 across it.
    """
    truth, found = square(20, 20, 60), square(20, 22, 60)
    common = 2 * 3 * 58 + 2 * 1 * 54
    assert iou(outline(truth), outline(found)) == common / (2 * 684 - common)
    image = [([(truth, 0, False)], [(found, 0, 0.9)])]
    thresholds = [common / (2 * 684 - common) + x for x in (-0.001, 0.001)]
    for threshold, expected in zip(thresholds, (1, 0), strict=True):
        metric = dict(iou_thrs=[threshold], metric_items=['mAP'])
        assert evaluate(image, 1, tmp_path / 't', **metric) == {'coco/boundary_mAP': expected}


def test_the_frame_is_boundary(tmp_path):
    """A mask at the frame and one that stops before its last pixels: the band there differs."""
    truth, found = square(0, 0, 100), square(0, 0, 96)
    shared = iou(outline(truth), outline(found))
    assert shared < 0.5 < iou(truth, found)
    got = evaluate([([(truth, 0, False)], [(found, 0, 0.9)])], 1, tmp_path / 't')
    assert got['coco/boundary_mAP'] == 0


def test_perfect_predictions_have_1_at_any_size(tmp_path):
    truths = [square(5, 5, 1), square(50, 50, 2), square(60, 0, 40), square(0, 30, 5)]
    image = [(mask, 0, False) for mask in truths], [(mask, 0, 0.5) for mask in truths]
    assert evaluate([image], 1, tmp_path / 't')['coco/boundary_mAP'] == 1


def test_a_crowd_takes_what_lies_within_it(tmp_path):
    crowd, inside = square(10, 10, 80), square(30, 30, 20)
    alone = square(0, 92, 6)
    truths = [(crowd, 0, True), (alone, 0, False)]
    found = [(inside, 0, 0.9), (square(40, 40, 20), 0, 0.8), (alone, 0, 0.7)]
    assert evaluate([(truths, found)], 1, tmp_path / 't')['coco/boundary_mAP'] == 1


@pytest.mark.parametrize(
    ('truths', 'expected'),
    [([(square(5, 5, 50), 0, False)], 0), ([(square(5, 5, 50), 0, True)], -1)],
)
def test_nothing_found(truths, expected, tmp_path):
    scores = evaluate([(truths, [])], 1, tmp_path / 't')
    assert scores['coco/boundary_mAP'] == expected


def test_more_predictions_than_an_8_bit_number_counts(tmp_path):
    truth, wrong = square(5, 5, 40), square(60, 60, 20)
    found = [(truth, 0, 0.9), *[(wrong, 0, 0.1)] * 299]
    scores = evaluate([([(truth, 0, False)], found)], 1, tmp_path / 't')
    assert scores['coco/boundary_mAP'] == 1


def test_an_empty_mask_is_a_false_one(tmp_path):
    truth = square(5, 5, 50)
    found = [(square(0, 0, 0), 0, 0.9), (truth, 0, 0.8)]
    image = [([(truth, 0, False)], found)]
    got = evaluate(image, 1, tmp_path / 't')['coco/boundary_mAP']
    assert got == pytest.approx(average_precision(image, 1), abs=1e-4) == 0.5


def test_scores_of_masks_go_before_those_of_boxes_and_rle_is_taken(tmp_path):
    images = generated(3)
    expected = evaluate(images, 2, tmp_path / 't')
    metric = BoundaryAPMetric(str(tmp_path / 't'))
    metric.dataset_meta = dict(classes=['class 0', 'class 1'])
    for sample in samples(images):
        instances = sample['pred_instances']
        instances['mask_scores'] = instances['scores']
        instances['scores'] = 1 - instances['scores']
        instances['masks'] = [rle(mask) for mask in instances['masks'].numpy()]
        metric.process({}, [sample])
    assert metric.evaluate(len(images)) == expected


@pytest.mark.slow
def test_several_processes_compute_the_same(tmp_path):
    images = generated(4, count=40)
    one, two = (evaluate(images, 2, tmp_path / 't', num_processes=n) for n in (1, 2))
    assert one == two


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(dilation_ratio=0), 'dilation_ratio must be above 0, got 0'),
        (dict(num_processes=0), 'num_processes must be 1 or more, got 0'),
        (dict(metric_items=['AR@100']), 'metric_items are mAP, .*; got AR@100'),
    ],
)
def test_arguments_without_sense(change, message, tmp_path):
    with pytest.raises(SetupError, match=message):
        evaluate(generated(0), 2, tmp_path / 't', **change)


def test_boxes_and_strangers_are_named(tmp_path):
    images = generated(0)
    path = Path(written(images, 2, tmp_path / 't'))
    metric = BoundaryAPMetric(str(path))
    metric.dataset_meta = dict(classes=['class 0', 'class 1'])
    (first, *_) = samples(images)
    metric.process({}, [dict(first, img_id=77)])
    with pytest.raises(SetupError, match='has no image of id 77'):
        metric.evaluate(1)
    metric.dataset_meta = dict(classes=['class 0', 'dog'])
    with pytest.raises(SetupError, match=r'categories \(class 0, class 1\).*\(class 0, dog\)'):
        metric.evaluate(1)
    first['pred_instances'].pop('masks')
    with pytest.raises(SetupError, match='predicts no masks'):
        metric.process({}, [first])
    content = json.loads(path.read_text())
    content['annotations'][0].pop('segmentation')
    path.write_text(json.dumps(content))
    with pytest.raises(SetupError, match='annotation 1 has no mask'):
        BoundaryAPMetric(str(path))


def test_more_is_better():
    scores = ['coco/boundary_mAP', 'fine/boundary_mAP_75']
    metrics = [
        dict(type='fade_mm.BoundaryAPMetric', ann_file='x', **x) for x in ({}, {'prefix': 'fine'})
    ]
    cfg = Config(
        dict(
            val_evaluator=metrics,
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', save_best=scores)),
        )
    )
    tell_rules(cfg)
    assert cfg.default_hooks.checkpoint.rule == ['greater', 'greater']


def test_one_option_adds_it_to_a_config_of_masks():
    cfg = load_config('mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py', {'boundary_ap': True})
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        of_masks, of_boundaries = evaluator
        assert of_masks['type'] == 'CocoMetric'
        assert of_boundaries['type'] == 'fade_mm.BoundaryAPMetric'
        assert of_boundaries['ann_file'] == of_masks['ann_file']
    options = {'boundary_ap.num_processes': 4}
    cfg = load_config('mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py', options)
    assert cfg.test_evaluator[1]['num_processes'] == 4


def test_a_runs_copy_of_its_config_has_it_once(tmp_path):
    copy = str(tmp_path / 'copy.py')
    options = {'boundary_ap.num_processes': 2}
    load_config('mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py', options).dump(copy)
    cfg = load_config(copy, {'boundary_ap.num_processes': 4})
    assert [x['type'] for x in cfg.test_evaluator] == ['CocoMetric', 'fade_mm.BoundaryAPMetric']
    assert cfg.test_evaluator[1]['num_processes'] == 4


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', 'CocoMetric of masks in val_evaluator'),
        ('mmseg::fcn/fcn_r50-d8_4xb4-20k_voc12aug-512x512.py', 'is for instance masks'),
    ],
)
def test_models_without_masks_do_not_take_it(name, message):
    with pytest.raises(SetupError, match=message):
        load_config(name, {'boundary_ap': True})
