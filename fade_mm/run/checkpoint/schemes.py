"""mmengine's loaders of checkpoints, each asking for data in the call itself."""

import io
import os
from tempfile import TemporaryDirectory

import torch
from mmengine.dist import get_dist_info
from mmengine.fileio import get_file_backend
from mmengine.runner import checkpoint as mmengine
from torch.hub import load_state_dict_from_url

from .unpickling import data_alone


def load_from_local(filename: str, map_location=None):
    """A path."""
    path = os.path.expanduser(filename)
    if not os.path.isfile(path):
        raise FileNotFoundError('there is no such file')
    return _read(path, map_location)


def load_from_http(url: str, map_location=None, model_dir=None, progress=None):
    """A URL, fetched by the first process before the others read it."""
    rank, processes = get_dist_info()
    if processes > 1 and rank:
        torch.distributed.barrier()
    progress = os.isatty(0) if progress is None else progress
    with data_alone():
        content = load_state_dict_from_url(
            url, model_dir, map_location, progress, weights_only=True
        )
    if processes > 1 and not rank:
        torch.distributed.barrier()
    return content


def load_from_pavi(filename: str, map_location=None):
    """``pavi://``, SenseTime's model cloud."""
    from pavi import modelcloud

    model = modelcloud.get(filename.removeprefix('pavi://'))
    with TemporaryDirectory() as folder:
        path = os.path.join(folder, os.path.basename(model.name))
        model.download(path)
        return _read(path, map_location)


def load_from_ceph(filename: str, map_location=None, backend: str = 'petrel'):
    """``s3://`` and ``petrel://``, object stores."""
    storage = get_file_backend(filename, backend_args={'backend': backend})
    with io.BytesIO(storage.get(filename)) as content:
        return _read(content, map_location)


def load_from_torchvision(filename: str, map_location=None):
    """``torchvision://`` and ``modelzoo://``, by a model's name."""
    return load_from_http(mmengine.get_torchvision_models()[_name(filename)], map_location)


def load_from_openmmlab(filename: str, map_location=None):
    """``open-mmlab://`` and ``openmmlab://``, by a model's name."""
    name = _name(filename)
    place = mmengine.get_external_models()[mmengine.get_deprecated_model_names().get(name, name)]
    if place.startswith(('http://', 'https://')):
        return load_from_http(place, map_location)
    return load_from_local(os.path.join(mmengine._get_mmengine_home(), place), map_location)


def load_from_mmcls(filename: str, map_location=None):
    """``mmcls://``, by a model's name."""
    content = load_from_http(mmengine.get_mmcls_models()[_name(filename)], map_location)
    return mmengine._process_mmcls_checkpoint(content)


def _name(filename: str) -> str:
    return filename.partition('://')[2]


def _read(file, map_location):
    with data_alone():
        return torch.load(file, map_location=map_location, weights_only=True)


LOADERS = {  # by the loader of mmengine's that each takes the place of
    getattr(mmengine, load.__name__): load
    for load in (
        load_from_ceph,
        load_from_http,
        load_from_local,
        load_from_mmcls,
        load_from_openmmlab,
        load_from_pavi,
        load_from_torchvision,
    )
}
