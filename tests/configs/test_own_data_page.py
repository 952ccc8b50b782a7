"""docs/own_data.md: the configs for users' data are what it shows, and do what it says."""

import json
import re
import shutil

import cv2
import numpy as np
import pytest
import torch
import yaml
from mmengine.registry import DATASETS

from fade_mm.hosts.base import in_scope_of
from fade_mm.run import load_config
from fade_mm.run.results import read_runs
from tests.hosts.matting_data import matting_root
from tests.tools import ROOT, run

PAGE = (ROOT / 'docs/own_data.md').read_text()
LABELLED = ('boxes', 'masks', 'segmentation', 'depth')
FILES = {name: ROOT / f'configs/own_data/{name}.py' for name in (*LABELLED, 'mattes')}
DETECTION = dict(classes=('RBC', 'WBC', 'Platelets'), scale=(64, 48), epochs=1, rois=16)
SEGMENTATION = dict(classes=('a', 'b', 'c'), scale=(64, 48), crop=(32, 32), batch=2, iterations=4)
DEPTH = dict(crop=(32, 48), batch=2, iterations=4)
WITHOUT_WEIGHTS = re.search(r'^    (backbone=.*\n)    neck=(.*)$', PAGE, re.M)
UPSAMPLED = dict(boxes='neck', masks='neck', segmentation='decode_head', depth='decode_head')
SCORES = dict(boxes='coco/bbox_mAP', masks='coco/segm_mAP', segmentation='mBIoU', depth='edge_rmse')


def with_knobs(name, **values):
    """A config's text with other values for its first lines."""
    text = FILES[name].read_text()
    for knob, value in values.items():
        text, found = re.subn(rf'^{knob} = .*?(?=  #)', f'{knob} = {value!r}', text, flags=re.M)
        assert found == 1
    return text


def without_weights(name, text):
    """As the page says: where nothing can be downloaded."""
    if name == 'depth':
        (backbone,) = re.findall(r'for depth\s+`(backbone=dict\(init_cfg=None.*?\))`', PAGE)
        text = text.replace("'../bts/", f"'{ROOT}/configs/bts/")
        return text.replace('model = dict(\n', f'model = dict(\n    {backbone},\n')
    if name == 'segmentation':
        return text.replace('model = dict(\n', 'model = dict(\n    backbone=dict(init_cfg=None),\n')
    backbone, neck = WITHOUT_WEIGHTS.groups()
    text = text.replace('model = dict(\n', f'model = dict(\n    {backbone}')
    assert "neck=dict(type='fade_mm.FPN')," in text
    return text.replace("neck=dict(type='fade_mm.FPN'),", f'neck={neck}')


def outline_boxes(root):
    """Give the boxes of a data set masks of the same size."""
    for path in (root / 'train.json', root / 'val.json'):
        content = json.loads(path.read_text())
        for item in content['annotations']:
            x, y, w, h = item['bbox']
            item['segmentation'] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        path.write_text(json.dumps(content))


@pytest.mark.parametrize('name', FILES)
def test_the_page_shows_the_file(name):
    assert FILES[name].read_text() in re.findall(r'```python\n(.*?)```', PAGE, re.S)


@pytest.mark.slow
@pytest.mark.parametrize('name', LABELLED)
def test_trains_takes_fade_and_is_tested(name, request, tmp_path, monkeypatch):
    by_iterations = name in ('segmentation', 'depth')
    root = request.getfixturevalue(f'{name if by_iterations else "detection"}_root')
    if name == 'masks':
        outline_boxes(root)
    knobs = dict(segmentation=SEGMENTATION, depth=DEPTH).get(name, DETECTION)
    text = with_knobs(name, data_root=str(root), **knobs)
    (tmp_path / 'mine.py').write_text(without_weights(name, text))
    monkeypatch.chdir(tmp_path)
    workers = [f'{x}_dataloader.num_workers=0' for x in ('train', 'val', 'test')]
    swap = f'model.{UPSAMPLED[name]}.upsample_cfg.type=fade'
    checkpoint = 'iter_4.pth' if by_iterations else 'epoch_1.pth'

    run('train', 'mine.py', '--cfg-options', *workers)
    run('train', 'mine.py', '--cfg-options', *workers, swap)
    for work, upsampler in (('mine', None), ('mine_fade', 'FADE')):
        result = yaml.safe_load((tmp_path / f'work_dirs/{work}/result.yml').read_text())
        assert SCORES[name] in result['scores']
        assert result['seed'] == 0
        assert (result['upsampler'] == 'FADE') is (upsampler == 'FADE')
        path = tmp_path / f'work_dirs/{work}/{checkpoint}'
        weights = torch.load(path, weights_only=False)['state_dict']
        assert any('upsamplers' in key for key in weights) is (upsampler == 'FADE')

    left = 'work_dirs/mine_fade/mine.py', f'work_dirs/mine_fade/{checkpoint}'
    run('test', *left, '--show-dir', 'pictures', '--cfg-options', *workers)
    assert len(list((tmp_path / 'pictures').glob('*.png'))) == (3 if by_iterations else 2)
    picture = next(root.rglob('*.jpg'))
    run('image_demo', picture, *left, '--out-dir', 'drawn')
    assert (tmp_path / f'drawn/{picture.stem}.png').exists()


def test_mattes_train_take_fade_and_cut_out(tmp_path, monkeypatch):
    """Cut-outs over photographs; validation on photographs as the page adds it."""
    root = matting_root(tmp_path / 'mine', foregrounds=4)
    for path in (root / 'fg').iterdir():
        alpha = cv2.imread(str(root / 'alpha' / path.name), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), np.dstack([cv2.imread(str(path)), alpha]))
    text = with_knobs(
        'mattes', data_root=str(root), backgrounds=str(root / 'bg'), holdout=4, crop=32, batch=2,
        iterations=2, channels=4, pretrained=None,
    )  # fmt: skip
    (tmp_path / 'mine.py').write_text(text)
    (added,) = blocks('val_')
    (tmp_path / 'photographs.py').write_text(text + added)
    monkeypatch.chdir(tmp_path)
    workers = [f'{x}_dataloader.num_workers=0' for x in ('train', 'val', 'test')]
    swap = 'model.upsample_cfg.type=fade'

    run('train', 'mine.py', '--cfg-options', *workers, swap)
    result = yaml.safe_load((tmp_path / 'work_dirs/mine_fade/result.yml').read_text())
    seen = ['upsamplers/fixed', 'upsamplers/kernels.variation']
    assert list(result['scores']) == ['SAD', 'MSE', 'Grad', 'Conn', *seen]
    assert (result['task'], result['upsampler'], result['seed']) == ('matting', 'FADE', 0)
    left = 'work_dirs/mine_fade/mine.py', 'work_dirs/mine_fade/iter_2.pth'
    run('test', *left, '--show-dir', 'pictures', '--out', 'alphas', '--cfg-options', *workers)
    assert len(list((tmp_path / 'pictures').iterdir())) == 5
    assert len(list((tmp_path / 'alphas').iterdir())) == 5

    run('test', 'photographs.py', left[1], '--out', 'real', '--cfg-options', *workers, swap)
    assert sorted(x.name for x in (tmp_path / 'real').iterdir()) == ['0.png', '1.png']
    photographs, trimaps = (root / f'validation/{x}' for x in ('image', 'trimap'))
    run('image_demo', photographs, *left, '--trimaps', trimaps, '--out-dir', 'drawn')
    cut_out = cv2.imread(str(tmp_path / 'drawn/0.cutout.png'), cv2.IMREAD_UNCHANGED)
    assert cut_out.shape == (48, 64, 4)
    alpha = cv2.imread(str(tmp_path / 'real/0.png'), cv2.IMREAD_UNCHANGED)
    assert (cut_out[..., 3] == alpha).all()


def blocks(start):
    """The page's Python that starts with some words."""
    return [x for x in re.findall(r'```python\n(.*?)```', PAGE, re.S) if x.startswith(start)]


def keep_one_aside(name, root):
    """Make a test set of one picture, and say what it is called."""
    if name == 'mattes':
        shutil.copytree(root / 'validation', root / 'test')
        for path in (root / 'test').glob('*/1.*'):
            path.unlink()
        return 'test/image/0.jpg'
    if name in ('boxes', 'masks'):
        content = json.loads((root / 'val.json').read_text())
        (root / 'test.json').write_text(json.dumps({**content, 'images': content['images'][1:]}))
        return 'images/val1.jpg'
    for folder in root.glob('*/validation'):
        (folder.parent / 'test').mkdir()
        path = next(folder.glob('2.*'))
        shutil.copy(path, folder.parent / 'test' / path.name)
    return 'images/test/2.jpg'


@pytest.mark.parametrize('name', FILES)
def test_pictures_kept_aside_are_tested_alone(name, request, tmp_path):
    """With the lines that the page has for them."""
    if name == 'mattes':
        root = matting_root(tmp_path / 'mine', foregrounds=4)
        text = FILES[name].read_text() + blocks('val_')[0] + blocks('kept = dict(val_')[0]
    else:
        by_iterations = name in ('segmentation', 'depth')
        root = request.getfixturevalue(f'{name if by_iterations else "detection"}_root')
        lines = blocks('kept = dict(img' if by_iterations else 'test_dataloader')[0]
        if name == 'depth':
            depth = re.search(r'for depth, write `(.*?)`', PAGE)[1]
            lines = lines.replace("seg_map_path='annotations/test'", depth)
        old = 'test_dataloader, test_evaluator = val_dataloader, val_evaluator\n'
        text = without_weights(name, FILES[name].read_text())
        assert old in text
        text = text.replace(old, lines)
    expected = keep_one_aside(name, root)
    text = text.replace("'data/mine'", repr(str(root)))
    (tmp_path / 'mine.py').write_text(text.replace("('cat', 'dog')", "('RBC', 'WBC')"))
    cfg = load_config(str(tmp_path / 'mine.py'))
    with in_scope_of(cfg):
        val, test = (DATASETS.build(cfg[f'{x}_dataloader'].dataset) for x in ('val', 'test'))
    paths = [test.get_data_info(i)['img_path'] for i in range(len(test))]
    assert paths == [str(root / expected)]
    assert len(val) > 1
    if name in ('boxes', 'masks'):
        assert cfg.val_evaluator.ann_file == str(root / 'val.json')
        assert cfg.test_evaluator == {**cfg.val_evaluator, 'ann_file': str(root / 'test.json')}
    else:
        assert cfg.test_evaluator == cfg.val_evaluator


@pytest.mark.parametrize('length', [1, 12, 100])
@pytest.mark.parametrize('name', ['boxes', 'masks'])
def test_one_length_for_epochs(name, length, tmp_path):
    (tmp_path / 'mine.py').write_text(with_knobs(name, epochs=length))
    cfg = load_config(str(tmp_path / 'mine.py'))
    warm_up, decay = cfg.param_scheduler
    assert cfg.train_cfg.max_epochs == decay.T_max == length
    assert 1 <= warm_up.end <= max(1, length / 10)


@pytest.mark.parametrize('length', [10, 4000])
def test_one_length_for_iterations(length, tmp_path):
    (tmp_path / 'mine.py').write_text(with_knobs('segmentation', iterations=length))
    cfg = load_config(str(tmp_path / 'mine.py'))
    warm_up, decay = cfg.param_scheduler
    assert cfg.train_cfg.max_iters == decay.end == length
    assert warm_up.end == decay.begin
    assert 2 <= warm_up.end <= max(2, length / 10)
    assert length % cfg.train_cfg.val_interval == 0  # so that the last step is scored and kept
    assert cfg.default_hooks.checkpoint.interval == cfg.train_cfg.val_interval


@pytest.mark.parametrize('length', [10, 20000])
def test_one_length_for_mattes(length, tmp_path):
    (tmp_path / 'mine.py').write_text(with_knobs('mattes', iterations=length))
    cfg = load_config(str(tmp_path / 'mine.py'))
    assert cfg.param_scheduler.milestones == [0.7 * length, 0.9 * length]
    assert cfg.train_cfg.val_interval == cfg.default_hooks.checkpoint.interval == length / 10


@pytest.mark.parametrize('length', [10, 4000])
def test_one_length_for_iterations_of_depth(length, tmp_path):
    text = with_knobs('depth', iterations=length)
    (tmp_path / 'mine.py').write_text(without_weights('depth', text))
    cfg = load_config(str(tmp_path / 'mine.py'))
    assert cfg.train_cfg.max_iters == cfg.param_scheduler[0].end - 1 == length
    assert length % cfg.train_cfg.val_interval == 0
    assert cfg.default_hooks.checkpoint.interval == cfg.train_cfg.val_interval


@pytest.mark.parametrize('name', ['boxes', 'masks'])
def test_caps_are_no_smaller_than_the_librarys(name):
    ours = load_config(str(FILES[name])).model
    theirs = load_config(re.search(r"'(mmdet::.*)'", FILES[name].read_text())[1]).model
    for cap in (
        lambda model: model.train_cfg.rpn_proposal.max_per_img,
        lambda model: model.train_cfg.rcnn.sampler.num,
        lambda model: model.test_cfg.rpn.max_per_img,
        lambda model: model.test_cfg.rcnn.max_per_img,
    ):
        assert cap(ours) >= cap(theirs)


@pytest.mark.parametrize('name', FILES)
def test_all_data_sets_are_read_alike(name):
    cfg = load_config(str(FILES[name]))
    loaders = [cfg[f'{x}_dataloader'] for x in ('train', 'val', 'test')]
    for key in ('type', 'data_root', 'metainfo'):
        assert len({str(loader.dataset.get(key)) for loader in loaders}) == 1
    for loader in loaders:
        for step in loader.dataset.pipeline:
            if 'Resize' in step['type']:
                assert step['scale'] == cfg.scale
            if step['type'] == 'RandomCrop':
                assert step['crop_size'] == cfg.crop == cfg.model.data_preprocessor.size
            assert not step.get('reduce_zero_label')
    assert cfg.val_evaluator == cfg.test_evaluator


@pytest.mark.parametrize('text', [PAGE, *(path.read_text() for path in FILES.values())])
def test_no_place_of_a_machine_is_named(text):
    assert not re.search(r'\.\./shared|(?<!\w)/(work|home|tmp)/', text)


def camvid(upsampler):
    """The mIoUs of an upsampler's runs on CamVid, one for each seed."""
    config = f'configs/segformer/segformer_mit-b0_{upsampler}_1xb4-1500_camvid-256x256.py'
    runs = [x for x in read_runs(ROOT / 'docs/results.yml') if x['config'] == config]
    return [x['scores']['mIoU'] for x in runs if x['budget'] == '1500 iterations']


def test_the_pages_scores_are_those_of_the_runs():
    rows = re.findall(r'^\| `(\w+)` \| ([\d.]+) \| (\d) \|', PAGE, re.M)
    assert len(rows) == 6
    for name, mean, seeds in rows:
        scores = camvid(name.replace('_', '-'))
        assert len(scores) == int(seeds)
        assert sum(scores) / len(scores) == pytest.approx(float(mean), abs=0.0501)


def test_seeds_move_scores_by_what_the_page_says():
    page = ' '.join(PAGE.split())
    for upsampler, words in (('bilinear', 'with bilinear upsampling'), ('fade', 'with FADE;')):
        scores = camvid(upsampler)
        assert f'from {min(scores):.1f} to {max(scores):.1f} {words}' in page
    scores = camvid('fade-lite')
    assert f"FADE-Lite's two seeds lie {max(scores) - min(scores):.1f} apart" in page
