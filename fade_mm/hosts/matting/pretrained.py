"""ImageNet weights of a ResNet-34 for the encoder of A2U Matting."""

import re
from collections.abc import Mapping

from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from fade_mm.errors import SetupError, listed, unavailable

ABN_EPS = 1e-5  # of mapillary's in-place batch norm
PARTS = ('layer0', 'layer1', 'layer2_1', 'layer2_2', 'layer3_1', 'layer3_2')


def as_batch_norm(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a model with in-place batch norms, for one with plain ones.

    An in-place batch norm scales by ``|weight| + 1e-5``.

    Args:
        weights: By name; norms are told by their running means.
    """
    return {
        name: value.abs() + ABN_EPS
        if name.endswith('.weight') and f'{name.removesuffix("weight")}running_mean' in weights
        else value
        for name, value in weights.items()
    }


def load_encoder(network: nn.Module, filename: str) -> None:
    """Start the encoder from an ImageNet ResNet-34; its weights for the trimap are zero.

    Args:
        network: An `A2UNet`.
        filename: Path or URL of a checkpoint: torchvision's ``resnet34``, or the ResNet-34 of
            mapillary/inplace_abn with LeakyReLU 0.01.

    Raises:
        SetupError: it cannot be read, is neither of the two, or has other widths.
    """
    try:
        checkpoint = CheckpointLoader.load_checkpoint(filename, map_location='cpu')
    except (OSError, ValueError) as error:
        raise unavailable(filename, str(error)) from error
    load_encoder_weights(network, checkpoint, filename)


def load_encoder_weights(network: nn.Module, checkpoint: dict, name: str) -> None:
    """Start the encoder from weights; see `load_encoder`.

    Args:
        network: An `A2UNet`.
        checkpoint: A state dict, or a dict with one under ``state_dict``.
        name: What messages call it.

    Raises:
        SetupError: the weights are of another network, or have other widths.
    """
    weights = checkpoint.get('state_dict', checkpoint)
    weights = {str(key).removeprefix('module.'): value for key, value in weights.items()}
    if 'mod1.conv1.weight' in weights:
        theirs, weights = _of_mapillary, as_batch_norm(weights)
    elif 'conv1.weight' in weights and 'layer1.0.conv1.weight' in weights:
        theirs = _of_torchvision
    else:
        raise SetupError(
            f'{name} is no ResNet-34 of torchvision or of mapillary/inplace_abn: it has '
            f'{", ".join([*weights][:3])}, ...'
        )
    faults = []
    found = {}
    for key, own in network.state_dict().items():
        if key.partition('.')[0] not in PARTS:
            continue
        value = weights.get(theirs(key))
        if key == 'layer0.0.weight' and value is not None and value.shape[1] == 3:
            value = _with_trimap(value)
        if value is None:
            if not key.endswith('num_batches_tracked'):
                faults.append(f'{theirs(key)} is missing')
        elif value.shape != own.shape:
            faults.append(f'{theirs(key)} has {tuple(value.shape)}, not {tuple(own.shape)}')
        else:
            found[key] = value
    if faults:
        raise SetupError(f'{name} does not fit the encoder:\n  {listed(faults)}')
    network.load_state_dict(found, strict=False)


def _with_trimap(weight: Tensor) -> Tensor:
    """The first convolution, from red, green and blue, with zeros for the trimap."""
    return nn.functional.pad(weight, [0, 0, 0, 0, 0, 1])


_PLACE = re.compile(r'layer(\d)(?:_([12]))?\.(?:block(\d)\.convs\.|layer[12]\.)?(.+)')
_STEM = {'0': 'conv1', '1': 'bn1'}
_PROJECTION = {'proj_conv': 'downsample.0', 'proj_bn': 'downsample.1'}


def _place(key: str) -> tuple[int, int, str]:
    """Stage, block, both from 0, and layer that a parameter of the encoder belongs to."""
    stage, half, number, layer = _PLACE.fullmatch(key).groups()
    return int(stage), 0 if half == '1' else int(number or 1) - (half is None), layer


def _of_torchvision(key: str) -> str:
    """What torchvision calls a parameter of the encoder."""
    stage, block, layer = _place(key)
    name, _, kind = layer.partition('.')
    if stage == 0:
        return f'{_STEM[name]}.{kind}'
    return f'layer{stage}.{block}.{_PROJECTION.get(name, name)}.{kind}'


def _of_mapillary(key: str) -> str:
    """What mapillary/inplace_abn calls a parameter of the encoder."""
    stage, block, layer = _place(key)
    name, _, kind = layer.partition('.')
    if stage == 0:
        return f'mod1.{_STEM[name]}.{kind}'
    convs = '' if name in _PROJECTION else 'convs.'
    return f'mod{stage + 1}.block{block + 1}.{convs}{layer}'
