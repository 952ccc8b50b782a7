"""Data sets of mattes: what is found, listed, drawn, left out, and what is missing."""

import shutil
from collections import Counter
from unittest import mock

import cv2
import numpy as np
import pytest
from mmengine.registry import DATASETS

from fade_mm.errors import SetupError
from fade_mm.hosts.matting.datasets import CompositionDataset, MattingDataset, drawn_from
from tests.hosts.matting_data import blob, matting_root, write

LOAD = [
    dict(type='LoadImageFromFile'),
    dict(type='fade_mm.LoadAlpha'),
    dict(type='fade_mm.LoadTrimap'),
    dict(type='fade_mm.PackMattingInputs'),
]
COMPOSE = [
    dict(type='fade_mm.LoadForeground'),
    dict(type='fade_mm.LoadBackground'),
    dict(type='fade_mm.CompositeFg'),
    dict(type='fade_mm.GenerateTrimap'),
    dict(type='fade_mm.CropAroundCenter', crop_size=32),
    dict(type='fade_mm.MergeFgAndBg'),
    dict(type='fade_mm.PackMattingInputs'),
]


@pytest.fixture
def root(tmp_path):
    return matting_root(tmp_path / 'mine')


def composed(root, **kwargs):
    arguments = dict(data_root=str(root), backgrounds=str(root / 'bg'), pipeline=COMPOSE, **kwargs)
    return DATASETS.build(dict(type='fade_mm.CompositionDataset', **arguments))


def pictures(root, **kwargs):
    arguments = dict(data_root=str(root / 'validation'), pipeline=LOAD, **kwargs)
    return DATASETS.build(dict(type='fade_mm.MattingDataset', **arguments))


def names(dataset, key):
    infos = (dataset.get_data_info(i) for i in range(len(dataset)))
    return [info[key].rsplit('/', 1)[1] for info in infos]


# Foregrounds over backgrounds


def test_foregrounds_take_turns_over_as_many_samples_as_backgrounds(root):
    for i in range(4, 20):
        write(root / f'bg/below/{i}.jpg', np.zeros((9, 9, 3), np.uint8))
    dataset = composed(root)
    assert len(dataset) == 20
    assert names(dataset, 'fg_path') == [f'{i % 6}.png' for i in range(20)]
    assert len(set(names(dataset, 'bg_path'))) == 20  # so that each file is looked for
    assert len(composed(root, length=7)) == 7


def test_no_foreground_is_lost_where_they_are_more_than_backgrounds(root):
    assert set(names(composed(root), 'fg_path')) == {f'{i}.png' for i in range(6)}


def test_backgrounds_and_second_foregrounds_are_random(root):
    dataset, seen = composed(root), Counter()
    dataset.pipeline = lambda info: info
    for _ in range(300):
        info = dataset[2]
        assert info['fg_path'].endswith('fg/2.png')
        assert info['alpha2_path'] == info['fg2_path'].replace('/fg/', '/alpha/')
        seen.update([info['bg_path'], info['fg2_path']])
    assert len(seen) == 4 + 6
    assert min(seen.values()) > 20


def test_a_sample_is_the_composite_of_its_parts(root):
    merged = composed(root, seed=3)[0]
    truth = merged['data_samples']
    fg, bg, alpha = truth.gt_fg, truth.gt_bg, truth.gt_alpha
    assert (merged['inputs'] - fg * alpha - bg * (1 - alpha)).abs().max() < 1e-3
    assert truth.img_path.endswith('.png')


def test_cut_outs_are_foregrounds_and_alphas(root):
    for i in range(3):
        write(root / f'cut/{i}.png', np.dstack(blob(i)))
    dataset = composed(root, data_prefix=dict(fg_path='cut'))
    assert dataset.get_data_info(0).keys() >= {'fg_path', 'bg_path'}
    assert 'alpha_path' not in dataset.get_data_info(0)
    sample = dataset[0]['data_samples']
    assert 0 < sample.gt_alpha.mean() < 1


def test_alphas_may_have_other_endings_and_folders_below(root):
    fg, alpha = blob(9)
    write(root / 'fg/hair/long.jpg', fg)
    write(root / 'alpha/hair/long.png', alpha)
    write(root / 'alpha/long.png', alpha)
    infos = [composed(root, length=7).get_data_info(i) for i in range(7)]
    assert [x['alpha_path'] for x in infos if 'long' in x['fg_path']] == [
        str(root / 'alpha/hair/long.png')
    ]


def test_the_list_files_of_composition_1k(root):
    lists = dict(train_fg='fg', train_alpha='alpha', train_bg='bg')
    order = [4, 0, 2]
    for name, folder in lists.items():
        ending = 'jpg' if folder == 'bg' else 'png'
        lines = [f'{folder}/{i % 4 if folder == "bg" else i}.{ending}' for i in order]
        (root / f'{name}.txt').write_text('\n'.join(lines) + '\n')
    dataset = CompositionDataset(
        data_root=str(root),
        backgrounds=str(root / 'train_bg.txt'),
        data_prefix=dict(fg_path='train_fg.txt', alpha_path='train_alpha.txt'),
        pipeline=COMPOSE,
    )
    assert names(dataset, 'fg_path') == names(dataset, 'alpha_path') == ['4.png', '0.png', '2.png']
    assert dataset[1]['inputs'].shape == (3, 32, 32)


def test_what_is_left_out_of_training_is_tested(root):
    train, test = composed(root, holdout=3), composed(root, holdout=3, test_mode=True)
    assert set(names(train, 'fg_path')) == {'0.png', '1.png', '3.png', '4.png'}
    assert set(names(test, 'fg_path')) == {'2.png', '5.png'}
    assert len(test) == 5 * 2
    drawn = [set(), set()]
    for dataset, seen in zip((train, test), drawn, strict=True):
        dataset.pipeline = lambda info, seen=seen: seen.update({info['bg_path'], info['fg2_path']})
        for i in range(len(dataset)):
            for _ in range(9):
                dataset.prepare_data(i)
    assert not drawn[0] & drawn[1]
    few = composed(root, holdout=6), composed(root, holdout=6, test_mode=True)
    assert few[0]._bgs == few[1]._bgs  # four backgrounds are too few to leave one out


@pytest.mark.parametrize('holdout', [1, 7])
def test_a_holdout_of_none_or_all_is_an_error(holdout, root):
    with pytest.raises(SetupError, match=f'holdout={holdout} leaves (none|all) of 6 foregrounds'):
        composed(root, holdout=holdout)


def test_one_foreground_is_too_few_to_hold_one_out(root):
    for i in range(1, 6):
        (root / f'fg/{i}.png').unlink()
    with pytest.raises(SetupError, match=r'leaves none of 1 foregrounds .* it takes two at least'):
        composed(root, holdout=2)


def test_composites_with_a_seed_are_the_same_in_any_order_and_state(root):
    one, other = composed(root, test_mode=True), composed(root, seed=0)
    expected = [one[i] for i in range(6)]
    np.random.seed(77)
    for i in (5, 0, 3, 3):
        found = other[i]
        assert found['inputs'].equal(expected[i]['inputs'])
        assert found['data_samples'].trimap.equal(expected[i]['data_samples'].trimap)
        assert found['data_samples'].img_path == expected[i]['data_samples'].img_path
    assert not composed(root, seed=1)[0]['inputs'].equal(expected[0]['inputs'])
    assert len({x['inputs'].sum().item() for x in expected}) == 6


def test_a_seed_of_samples_leaves_other_draws_alone():
    np.random.seed(5)
    expected = np.random.rand(4)
    np.random.seed(5)
    with drawn_from(0, 1):
        np.random.rand(9)
    np.testing.assert_array_equal(np.random.rand(4), expected)


def test_without_a_seed_samples_differ(root):
    dataset = composed(root)
    assert not dataset[0]['inputs'].equal(dataset[0]['inputs'])


def test_foregrounds_without_alpha_are_named(root):
    (root / 'alpha/3.png').unlink()
    with pytest.raises(SetupError, match=r'1 foregrounds have neither an alpha .*alpha nor tra'):
        composed(root)
    with pytest.raises(SetupError, match=r'6 foregrounds have neither alphas .* alpha_path') as x:
        composed(root, data_prefix=dict(fg_path='fg'))
    assert str(root / 'fg/0.png') in str(x.value)


def test_folders_that_are_missing_or_empty_are_named(root):
    with pytest.raises(FileNotFoundError, match='nowhere'):
        composed(root, data_prefix=dict(fg_path='nowhere'))
    for place in (root / 'nowhere', root / 'bg/0.jpg', root / 'nowhere.txt'):
        with pytest.raises(SetupError, match=rf'no folder or list {place} of photographs to lay'):
            CompositionDataset(data_root=str(root), backgrounds=str(place))
    (root / 'empty').mkdir()
    with pytest.raises(SetupError, match=r'no pictures in .*empty \(\.bmp'):
        composed(root, data_prefix=dict(fg_path='empty'))
    with pytest.raises(SetupError, match=r'no pictures in .*empty'):
        CompositionDataset(data_root=str(root), backgrounds=str(root / 'empty'))


def test_lists_of_unequal_length_are_named(root):
    (root / 'fg.txt').write_text('fg/0.png\nfg/1.png\n')
    (root / 'alpha.txt').write_text('alpha/0.png\n')
    with pytest.raises(SetupError, match=r'alpha\.txt has 1 line; .* 2 pictures'):
        composed(root, data_prefix=dict(fg_path='fg.txt', alpha_path='alpha.txt'))


def test_an_alpha_of_another_size_is_named_when_it_is_read(root):
    write(root / 'alpha/0.png', blob(0)[1][:-5])
    with pytest.raises(SetupError, match=r'alpha/0\.png has 43 rows and 64 columns'):
        composed(root).prepare_data(0)


# Pictures


def test_pictures_with_alphas_and_trimaps(root):
    dataset = pictures(root, subset='natural')
    assert len(dataset) == 2
    sample = dataset[1]['data_samples']
    stored = cv2.imread(str(root / 'validation/alpha/1.png'), cv2.IMREAD_UNCHANGED)
    np.testing.assert_allclose(sample.gt_alpha[0], stored / 255, atol=1e-6)
    trimap = cv2.imread(str(root / 'validation/trimap/1.png'), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(sample.trimap[0], trimap)
    assert sample.img_path.endswith('image/1.jpg')
    assert sample.subset == 'natural'


def test_the_test_list_of_composition_1k(root):
    place = root / 'validation'
    lines = [f'image/{i}.jpg\talpha/{i}.png\ttrimap/{i}.png' for i in (1, 0)]
    (place / 'test.txt').write_text('\n'.join(lines) + '\n')
    dataset = pictures(root, ann_file='test.txt')
    assert names(dataset, 'trimap_path') == ['1.png', '0.png']
    assert dataset[0]['data_samples'].gt_alpha.shape == (1, 48, 64)
    (place / 'test.txt').write_text('image/1.jpg alpha/1.png trimap/1.png\n')
    with pytest.raises(SetupError, match=r'test\.txt, line 1 has 1 path; .* with tabs'):
        pictures(root, ann_file='test.txt')


def test_trimaps_that_are_made_are_told(root):
    (root / 'validation/trimap/1.png').unlink()
    with mock.patch('fade_mm.hosts.matting.datasets.print_log') as log:
        dataset = pictures(root)
        assert '1 of 2 pictures' in log.call_args.args[0]
        without = pictures(root, data_prefix=dict(img_path='image', alpha_path='alpha'))
        assert '2 of 2 pictures' in log.call_args.args[0]
        shutil.rmtree(root / 'validation/trimap')
        assert 'trimap_path' not in pictures(root).get_data_info(0)
        assert log.call_count == 3
    assert set(dataset[1]['data_samples'].trimap.unique().tolist()) == {0, 128, 255}
    assert without[0]['data_samples'].trimap.unique().tolist() == [0, 128, 255]


def test_pictures_without_truth(root):
    dataset = pictures(root, data_prefix=dict(img_path='image', trimap_path='trimap'))
    assert 'gt_alpha' not in dataset[0]['data_samples']
    with pytest.raises(SetupError, match='2 pictures have neither a trimap nor an alpha'):
        pictures(root, data_prefix=dict(img_path='image'))
    (root / 'validation/alpha/0.png').unlink()
    with pytest.raises(
        SetupError, match=r'1 picture has no alpha of the same name in .*alpha:\n.*0'
    ):
        pictures(root)


def test_a_config_builds_them():
    assert DATASETS.get('fade_mm.MattingDataset') is MattingDataset
