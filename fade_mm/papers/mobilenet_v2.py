"""ImageNet weights of MobileNetV2, as they are released, under OpenMMLab's names."""

from collections.abc import Iterator, Sequence

from fade_mm.errors import SetupError

_BLOCKS = (1, 2, 3, 4, 3, 3, 1)  # of each stage
_NORM = ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')


def convert_mobilenet_v2(theirs: dict, ours: Sequence[str] | None = None) -> dict:
    """The backbone's weights, of torchvision's or tonylins' release, under OpenMMLab's names.

    All list the same tensors, block by block, and name them in their own ways. The classifier is
    left out, and the last convolution where the backbone has none.

    Args:
        theirs: Tensors by name, with or without classifier.
        ours: The names of a backbone's tensors, in the order of the network. Default: those of
            segmentation's, which has no last convolution.

    Raises:
        SetupError: a tensor is missing, or not in its place.
    """
    ours = list(_names()) if ours is None else ours
    kept = [name for name in theirs if not name.startswith('classifier.')]
    if len(kept) != len(ours):
        kept = [name for name in kept if not name.startswith('features.18.')]
    if len(kept) != len(ours):
        raise SetupError(f'the backbone has {len(ours)} tensors, the file has {len(kept)} for it')
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
