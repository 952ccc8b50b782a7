"""ImageNet weights of MobileNetV2, as they are released, under OpenMMLab's names."""

from collections.abc import Iterator

from fade_mm.errors import SetupError

_BLOCKS = (1, 2, 3, 4, 3, 3, 1)  # of each stage
_CONVS = {  # of a block: expanding, depthwise, projecting
    'mmseg': ('conv.0', 'conv.1', 'conv.2'),
    'mmdet': ('expand_conv', 'depthwise_conv', 'linear_conv'),
}
_NORM = ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')


def convert_mobilenet_v2(theirs: dict, library: str = 'mmseg') -> dict:
    """The backbone's weights, of torchvision's or tonylins' release, under a library's names.

    Both list the same tensors, block by block, and name them in their own ways. mmdetection's
    backbone has the last convolution, too; the classifier is left out.

    Args:
        theirs: Tensors by name, with or without classifier.
        library: ``'mmseg'`` or ``'mmdet'``, each of which has a MobileNetV2 of its own. Default:
            ``'mmseg'``.

    Raises:
        SetupError: a tensor is missing, or not in its place.
    """
    unused = ('classifier.',) if library == 'mmdet' else ('classifier.', 'features.18.')
    kept = [name for name in theirs if not name.startswith(unused)]
    ours = list(_names(library))
    if len(kept) != len(ours):
        raise SetupError(
            f"MobileNetV2 has {len(ours)} tensors in {library}'s backbone, the file has {len(kept)}"
        )
    for their_name, name in zip(kept, ours, strict=True):
        if their_name.rpartition('.')[2] != name.rpartition('.')[2]:
            raise SetupError(f'{their_name} is where {name} was expected; is this MobileNetV2?')
    return {name: theirs[x] for name, x in zip(ours, kept, strict=True)}


def _names(library: str) -> Iterator[str]:
    """A library's names, in the order of the network."""
    yield from _conv_and_norm('conv1')
    for stage, blocks in enumerate(_BLOCKS, 1):
        for block in range(blocks):
            convs = _CONVS[library]
            if stage == 1:  # does not expand
                convs = convs[:2] if library == 'mmseg' else convs[1:]
            for conv in convs:
                yield from _conv_and_norm(f'layer{stage}.{block}.{conv}')
    if library == 'mmdet':
        yield from _conv_and_norm('conv2')


def _conv_and_norm(name: str) -> Iterator[str]:
    yield f'{name}.conv.weight'
    for part in _NORM:
        yield f'{name}.bn.{part}'
