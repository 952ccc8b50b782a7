"""The files of a data set: whether they are there, and which of them an error is about."""

import logging
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

from mmengine.dataset import BaseDataset
from mmengine.dist import is_main_process
from mmengine.logging import print_log

from fade_mm.errors import SetupError, is_bug
from fade_mm.hosts.base import Host
from fade_mm.hosts.configs import dicts
from fade_mm.hosts.orientation import turn_of


def leaves(dataset) -> Iterator[BaseDataset]:
    """The data sets inside of any wrappers."""
    return (x for x in _nested(dataset) if not _inner(x) and isinstance(x, BaseDataset))


def transforms(dataset) -> Iterator[Callable]:
    """What a data set and those inside of it do to a sample."""
    for x in _nested(dataset):
        pipeline = getattr(x, 'pipeline', None) or ()
        yield from getattr(pipeline, 'transforms', pipeline)


def _nested(dataset) -> Iterator:
    yield dataset
    for item in _inner(dataset):
        yield from _nested(item)


def _inner(dataset) -> list:
    found = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    return [x for x in found if x is not None]


def check_class_names(dataloader: dict, place: str) -> None:
    """Raise where a config has a text for the classes of a data set, whose letters would count.

    Args:
        dataloader: The config of a data loader.
        place: Its key, for the message.
    """
    for node in dicts(dataloader):
        classes = (node.get('metainfo') or {}).get('classes')
        if isinstance(classes, str) and not os.path.isfile(classes):
            raise SetupError(
                f'{place}: metainfo.classes is the text {classes!r}, which would count as '
                f'{len(classes)} classes; write metainfo=dict(classes=({classes!r},))'
            )


@contextmanager
def naming_annotations(place: str) -> Iterator[None]:
    """Name the annotation file where a data set that is built fails to read it.

    Args:
        place: The key of the data set's loader, for the message.

    Raises:
        SetupError: it is no such file (broken JSON, no ``images``, ...).
    """
    try:
        yield
    except (SetupError, FileNotFoundError):
        raise
    except Exception as error:
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        readers = [x.f_locals['self'] for x in frames if x.f_code.co_name == 'load_data_list']
        if not readers or not readers[0].ann_file or is_bug(error):
            raise
        raise SetupError(
            f'{place}: {readers[0].ann_file} cannot be read as annotations for a '
            f'{type(readers[0]).__name__}: {type(error).__name__}: {error}'
        ) from error


def check_files(dataset: BaseDataset, place: str) -> None:
    """Raise unless each file of a data set on a local disk exists.

    A path says where a file is only if its reader says so: what is read from a storage (LMDB, Ceph
    with mapped paths, memcached, HTTP), or by a transform that knows no storage, is left alone.
    One process looks for all, and lists each folder once, which is quick on a network's disks too.

    Args:
        dataset: The data set.
        place: The key of its data loader, for the message.

    Raises:
        SetupError: files are missing.
    """
    if not is_main_process() or not _is_local(dataset):
        return
    files_of = cache(_files_of)
    missing = []
    for index in range(len(dataset)):
        for key, path in dataset.get_data_info(index).items():
            if not key.endswith('_path') or not isinstance(path, str) or '://' in path:
                continue
            folder, name = os.path.split(path)
            # The second look is for disks that take a name in other letters than they list.
            if name not in files_of(folder) and not os.path.isfile(path):
                missing.append(path)
    if missing:
        raise SetupError(
            f'{place}: {len(missing)} files of the data set are missing, the first ones being\n  '
            + '\n  '.join(missing[:5])
        )


def _is_local(dataset: BaseDataset) -> bool:
    """Whether all that reads the files of a data set reads them from a disk."""
    readers = [x for x in transforms(dataset) if hasattr(x, 'backend_args')]
    storages = [
        getattr(reader, name, None)
        for reader in (dataset, *readers)
        for name in ('backend_args', 'file_client_args')
    ]
    names = {storage.get('backend', 'local') for storage in storages if storage}
    return bool(readers) and names <= {'local', 'disk'}


def _files_of(folder: str) -> set[str]:
    try:
        with os.scandir(folder or '.') as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except OSError:  # there is none, or it may not be listed
        return set()


class NamingPipeline:
    """A data pipeline whose errors name the files that it was working on.

    Args:
        pipeline: The data set's own.
        dataset: The data set.
        host: Checks what the pipeline has made.
    """

    def __init__(self, pipeline: Callable, dataset: BaseDataset, host: Host) -> None:
        self.pipeline = pipeline
        self.dataset = dataset
        self.host = host
        self.seen = set()
        self.turns = any(
            getattr(x, 'color_type', None) in ('color', 'grayscale') for x in transforms(dataset)
        )

    def __getattr__(self, name: str):
        if name.startswith('__') or name == 'pipeline':
            raise AttributeError(name)
        return getattr(self.pipeline, name)

    def __call__(self, sample: dict):
        paths = (value for key, value in sample.items() if key.endswith('_path'))
        files = [path for path in paths if isinstance(path, str) and path]
        try:
            result = self.pipeline(sample)
        except Exception as error:
            if is_bug(error):
                raise
            raise SetupError(
                f'cannot read or transform {" with ".join(files) or "a sample"}: '
                f'{type(error).__name__}: {error}'
            ) from error
        self.host.check_sample(sample, result, self.dataset)
        self._tell_turn(sample.get('img_path'), result)
        return result

    def _tell_turn(self, path: object, result: object) -> None:
        """Warn of the first picture that was turned when read, if its labels' size cannot tell."""
        if not self.turns or not isinstance(path, str) or path in self.seen:
            return
        if not isinstance(result, dict):
            return
        self.seen.add(path)
        keys = (*result, *getattr(result.get('data_samples'), 'keys', tuple)())
        orientation, keeps_size = turn_of(path)
        if orientation != 1 and keeps_size and any(key.startswith('gt_') for key in keys):
            self.turns = False  # enough of it
            print_log(
                f'{path} was turned when it was read, as its file asks (EXIF orientation '
                f'{orientation}). Its labels must be for the turned picture, which their size '
                "cannot show; if they are not, read pictures with color_type='color_ignore_"
                "orientation'. Others like it are not named.",
                'current',
                logging.WARNING,
            )
