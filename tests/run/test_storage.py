"""Data in a storage are read from there, and never called missing from the disk."""

import os
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from mmengine.dataset import BaseDataset
from mmengine.fileio import LocalBackend, io, register_backend
from mmengine.fileio.backends import backends

from fade_mm.run import SetupError, data
from fade_mm.run.data import check_files
from tests.tools import BCCD, CAMVID, bccd_options, camvid_options, config, run


@pytest.fixture
def storage():
    """A backend that keeps below ``root`` what configs find in ``bucket``, which is no folder."""

    class Storage(LocalBackend):
        root = None

        def _at(self, path):
            return str(path).replace('bucket', str(self.root), 1)

        def get(self, filepath):
            return super().get(self._at(filepath))

        def get_text(self, filepath, encoding='utf-8'):
            return super().get_text(self._at(filepath), encoding)

        def get_local_path(self, filepath):
            return nullcontext(self._at(filepath))

        def list_dir_or_file(self, dir_path, *args, **kwargs):
            return super().list_dir_or_file(self._at(dir_path), *args, **kwargs)

        def exists(self, filepath):
            raise AssertionError(f'the storage was asked for {filepath}')

        isfile = exists

    register_backend('storage', Storage)
    yield Storage
    del backends['storage']
    io.backend_instances.clear()


def in_storage(readers):
    """``--cfg-options`` that read a config's files, and with these transforms, from the storage."""
    for split, steps in readers.items():
        yield f'{split}_dataloader.dataset.backend_args.backend=storage'
        for step in steps:
            yield f'{split}_dataloader.dataset.pipeline.{step}.backend_args.backend=storage'


def test_segmentation(storage, segmentation_root, tmp_path):
    storage.root = segmentation_root
    run(
        'train', config(CAMVID, 'bilinear'), '--work-dir', tmp_path / 'work', '--cfg-options',
        *camvid_options('bucket', 2), *in_storage(dict.fromkeys(('train', 'val', 'test'), (0, 1))),
    )  # fmt: skip
    assert (tmp_path / 'work/iter_2.pth').exists()


@pytest.fixture
def detection_options(storage, detection_root):
    storage.root = detection_root
    readers = dict(train=(0, 1), val=(0, 2), test=(0, 2))
    evaluators = (f'{split}_evaluator.backend_args.backend=storage' for split in ('val', 'test'))
    return [*bccd_options('bucket'), *in_storage(readers), *evaluators]


def test_detection_with_annotations_for_data_sets_and_evaluators(detection_options, tmp_path):
    run(
        'train', config(BCCD, 'nearest'), '--work-dir', tmp_path / 'work',
        '--cfg-options', *detection_options,
    )  # fmt: skip
    assert (tmp_path / 'work/epoch_1.pth').exists()


def test_pictures_for_the_gates(detection_options, tmp_path):
    cfg = tmp_path / 'hooked.py'
    cfg.write_text(f"""
_base_ = {str(config(BCCD, 'fade'))!r}
custom_hooks = [dict(type='fade_mm.UpsamplerVisualizationHook', images=1)]
""")
    run('train', cfg, '--work-dir', tmp_path / 'work', '--cfg-options', *detection_options)
    assert len(list((tmp_path / 'work').glob('*/vis_data/vis_image/**/*.png'))) == 3


def test_annotations_that_the_storage_lacks_are_named(detection_options, detection_root, tmp_path):
    (detection_root / 'train.json').unlink()
    with pytest.raises(SystemExit, match=r'the data set is not there: .*train\.json'):
        run(
            'train', config(BCCD, 'nearest'), '--work-dir', tmp_path,
            '--cfg-options', *detection_options,
        )  # fmt: skip


class Files(BaseDataset):
    """A data set of given files, which it says it reads with given transforms."""

    backend_args = None

    def __init__(self, paths, *readers):
        self.paths = [str(path) for path in paths]
        super().__init__(pipeline=readers)

    def load_data_list(self):
        return [dict(img_path=path, sample_idx=i) for i, path in enumerate(self.paths)]


class Reader:
    def __init__(self, **arguments):
        vars(self).update(arguments)

    def __call__(self, sample):
        return sample


LOCAL = Reader(backend_args=None)


@pytest.mark.parametrize(
    'readers',
    [
        [Reader(backend_args=dict(backend='lmdb', db_path='x'))],
        [Reader(backend_args=dict(backend='petrel', path_mapping={'gone/': 's3://gone/'}))],
        [Reader(backend_args=None, file_client_args=dict(backend='memcached'))],
        [LOCAL, Reader(backend_args=dict(backend='http'))],
        [Reader()],
    ],
    ids=['lmdb', 'petrel', 'file-client', 'one-of-two', 'a-transform-without-storages'],
)
def test_what_is_on_no_disk_is_not_looked_for(readers):
    check_files(Files(['gone/x.png'], *readers), 'train_dataloader')


def test_remote_annotations_make_no_local_images(tmp_path):
    files = Files([tmp_path / 'x.png'], LOCAL)
    files.backend_args = dict(backend='petrel')
    check_files(files, 'train_dataloader')


@pytest.mark.parametrize(
    'reader',
    [
        LOCAL,
        Reader(backend_args=dict(backend='local')),
        Reader(backend_args=None, file_client_args=dict(backend='disk')),
    ],
)
@pytest.mark.parametrize('key', ['img_path', 'seg_map_path', 'depth_map_path'])
def test_what_is_missing_on_a_disk_is_named(tmp_path, reader, key, monkeypatch):
    (tmp_path / 'there.png').touch()
    (tmp_path / 'to').symlink_to('there.png')
    (tmp_path / 'to-nothing').symlink_to('nothing')
    names = ('there.png', 'to', 'to-nothing', 'gone.png', 'folder/gone.png')
    files = Files([tmp_path / name for name in names], reader)
    files.full_init()
    monkeypatch.setattr(files, 'get_data_info', lambda i: {key: files.paths[i]})
    with pytest.raises(SetupError, match='3 files of the data set are missing') as error:
        check_files(files, 'train_dataloader')
    assert [line.strip() for line in str(error.value).splitlines()[1:]] == files.paths[2:]


def test_urls_are_left_to_their_backends():
    check_files(Files(['s3://bucket/x.png', 'https://host/y.png'], LOCAL), 'train_dataloader')


def test_a_folder_is_listed_once(tmp_path, monkeypatch):
    paths = [tmp_path / f'{i}.png' for i in range(20)]
    for path in paths:
        path.touch()
    listed, asked = [], []
    scandir = os.scandir
    monkeypatch.setattr(data, 'os', SimpleNamespace(
        path=SimpleNamespace(split=os.path.split, isfile=asked.append),
        scandir=lambda folder: listed.append(folder) or scandir(folder),
    ))  # fmt: skip
    check_files(Files(paths, LOCAL), 'train_dataloader')
    assert listed == [str(tmp_path)]
    assert not asked


def test_one_process_looks_for_all(tmp_path, monkeypatch):
    monkeypatch.setattr(data, 'is_main_process', lambda: False)
    check_files(Files([tmp_path / 'gone.png'], LOCAL), 'train_dataloader')
