"""ImageNet weights of MobileNetV2, as they are released, under OpenMMLab's names."""

from collections.abc import Iterator

from fade_mm.errors import SetupError

_BLOCKS = (1, 2, 3, 4, 3, 3, 1)  # of each stage
_NORM = ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')


def convert_mobilenet_v2(theirs: dict) -> dict:
    """The backbone's weights, of torchvision's or tonylins' release, under OpenMMLab's names.

    Both list the same tensors, block by block, and name them in their own ways; the last
    convolution and the classifier are left out.

    Args:
        theirs: Tensors by name, with or without classifier.

    Raises:
        SetupError: a tensor is missing, or not in its place.
    """
    kept = [name for name in theirs if not name.startswith(('features.18.', 'classifier.'))]
    ours = list(_names())
    if len(kept) != len(ours):
        raise SetupError(
            f'MobileNetV2 has {len(ours)} tensors before its last convolution (features.18), the '
            f'file has {len(kept)}'
        )
    for their_name, name in zip(kept, ours, strict=True):
        if their_name.rpartition('.')[2] != name.rpartition('.')[2]:
            raise SetupError(f'{their_name} is where {name} was expected; is this MobileNetV2?')
    return {name: theirs[x] for name, x in zip(ours, kept, strict=True)}


def _names() -> Iterator[str]:
    """OpenMMLab's names, in the order of the network."""
    yield from _conv_and_norm('conv1')
    for stage, blocks in enumerate(_BLOCKS, 1):
        for block in range(blocks):
            for i in range(2 if stage == 1 else 3):  # the first block does not expand
                yield from _conv_and_norm(f'layer{stage}.{block}.conv.{i}')


def _conv_and_norm(name: str) -> Iterator[str]:
    yield f'{name}.conv.weight'
    for part in _NORM:
        yield f'{name}.bn.{part}'
