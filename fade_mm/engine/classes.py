"""Whether a model has as many classes as the data that it is trained or tested on."""

import re

from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import nn

from .data import leaves
from .errors import SetupError

# Where OpenMMLab's models keep heads that tell a data set's classes apart. Others propose regions,
# track, identify, or predict stuff beside things: their classes are not the data set's.
_HEADS = {
    'auxiliary_head',
    'bbox_head',
    'decode_head',
    'mask_head',
    'panoptic_head',
    'point_head',
    'query_head',
}


def check_classes(model: nn.Module, dataset, dataloader: str) -> None:
    """Raise unless the heads of a model have as many classes as a data set has labels.

    The samples say whether there is something to compare: boxes or label maps, which are of the
    data set's classes. There is not where they hold depth, identities or videos, nor where things
    and stuff have heads of their own, nor where class names are given to the model as text.

    Args:
        model: Any model.
        dataset: What it is trained or tested on.
        dataloader: Key of the config that the data set is from, for the message.

    Raises:
        SetupError: the numbers differ.
    """
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    if hasattr(model, 'language_model') or hasattr(model, 'text_encoder'):
        return
    for leaf in leaves(dataset):
        classes = leaf.metainfo.get('classes')
        if classes and len(leaf) and _labels_are_classes(leaf):
            _compare(model, classes, dataloader)


def _labels_are_classes(dataset) -> bool:
    sample = dataset.get_data_info(0)
    has_labels = 'instances' in sample or 'seg_map_path' in sample
    return has_labels and 'text' not in sample and 'thing_classes' not in dataset.metainfo


def _compare(model: nn.Module, classes: list[str], dataloader: str) -> None:
    for name, head in model.named_modules():
        place = re.sub(r'(\.\d+)+$', '', name).rpartition('.')[2]  # cascades have lists of heads
        count = getattr(head, 'num_classes', None)
        if place not in _HEADS or count is None or count == len(classes):
            continue
        if getattr(head, 'class_agnostic', False) or _has_own_labels(head, place):
            continue
        raise SetupError(
            f'model.{name}.num_classes is {count}, but the data set of {dataloader} has '
            f'{len(classes)} classes ({", ".join(classes[:5])}{", ..." * (len(classes) > 5)}); '
            f"set model.{name}.num_classes={len(classes)}, or the data set's metainfo.classes, "
            'or, if that is as it should be, check_classes=False'
        )


def _has_own_labels(head: nn.Module, place: str) -> bool:
    """Whether a head proposes regions, or helps by learning something else, e.g. edges."""
    loss = getattr(type(head), 'loss_by_feat', None)
    inherited = loss is None or loss.__qualname__ == 'BaseDecodeHead.loss_by_feat'
    return 'RPN' in type(head).__name__ or (place == 'auxiliary_head' and not inherited)
