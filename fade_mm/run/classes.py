"""Whether a model has as many classes as the data that it is trained or tested on."""

from torch import nn

from fade_mm.errors import SetupError, counted, first_of
from fade_mm.hosts.base import host_of, unwrapped

from .data import leaves


def check_classes(model: nn.Module, dataset, dataloader: str) -> None:
    """Raise unless the heads of a model have as many classes as a data set has labels.

    The model's host says whether there is something to compare: not where the data holds depth,
    identities or videos, nor where class names are given to the model as text.

    Args:
        model: Any model.
        dataset: What it is trained or tested on.
        dataloader: Key of the config that the data set is from, for the message.

    Raises:
        SetupError: the numbers differ.
    """
    host, model = host_of(model), unwrapped(model)
    for leaf in leaves(dataset):
        classes = leaf.metainfo.get('classes')
        if not classes or not len(leaf) or not host.labels_are_classes(leaf):
            continue
        for name, head in host.class_heads(model):
            if head.num_classes != len(classes):
                raise SetupError(
                    f'model.{name}.num_classes is {head.num_classes}, but the data set of '
                    f'{dataloader} has {counted(len(classes), "class", "classes")} '
                    f'{first_of(classes)}; '
                    f"set model.{name}.num_classes={len(classes)}, or the data set's "
                    'metainfo.classes, or, if that is as it should be, check_classes=False'
                )
