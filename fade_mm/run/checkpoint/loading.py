"""Loading checkpoints into models that they fit, where mmengine only warns."""

import re
from collections import OrderedDict
from collections.abc import Sequence

from mmengine.hooks import Hook
from torch import Tensor, nn

from fade_mm.errors import SetupError, listed
from fade_mm.hosts.base import unwrapped
from fade_mm.registry import HOOKS
from fade_mm.upsamplers import named_upsamplers

from .guard import read_checkpoint


def load_checkpoint(model: nn.Module, filename: str) -> dict:
    """Load a checkpoint for inference; every parameter of the model must be in it.

    Args:
        model: The model that receives the weights.
        filename: Path or URL, in any scheme of mmengine's.

    Returns:
        The checkpoint.

    Raises:
        SetupError: a key is missing or has another shape, or the file names code.
    """
    checkpoint = read_checkpoint(filename)
    load_fitting(model, checkpoint)
    return checkpoint


def load_fitting(model: nn.Module, checkpoint: dict, may_lack: Sequence[str] = ()) -> list[str]:
    """Load the weights of a checkpoint into a model that they fit.

    Args:
        model: The model that receives the weights.
        checkpoint: A state dict, or a dict with one under ``state_dict``.
        may_lack: Regular expressions; keys of the model that one of them matches from the start
            may be missing or have another shape, and keep their values. Default: none.

    Returns:
        The keys that kept their values.

    Raises:
        SetupError: another key is missing or has another shape, or the checkpoint has upsamplers
            that the model has not.
    """
    model = unwrapped(model)
    loaded = checkpoint.get('state_dict', checkpoint)
    if not isinstance(loaded, dict):
        raise SetupError(f'state_dict must be a dict of tensors, got {type(loaded).__name__}')
    state_dict = OrderedDict(
        (str(key).removeprefix('module.'), value)
        for key, value in loaded.items()
        if isinstance(value, Tensor)
    )
    state_dict._metadata = getattr(loaded, '_metadata', None)  # versions of the layers' formats
    misshapen = {}
    for key, own in model.state_dict().items():
        if key in state_dict and state_dict[key].shape != own.shape:
            shape = tuple(state_dict.pop(key).shape)
            misshapen[key] = f'{key} has shape {shape}, the model needs {tuple(own.shape)}'
    try:
        missing, extra = model.load_state_dict(state_dict, strict=False)
    except RuntimeError as error:  # a misshapen key under a name that a layer translates
        raise SetupError(f'the checkpoint does not fit the model: {error}') from error
    missing = [key for key in missing if not key.endswith('num_batches_tracked')]
    kept = [key for key in missing if any(re.match(pattern, key) for pattern in may_lack)]
    faults = [misshapen.get(key, f'{key} is missing') for key in missing if key not in kept]
    faults += [f'{key} has no place in the model' for key in extra if 'upsamplers.' in key]
    if faults:
        raise SetupError(
            f'the checkpoint does not fit the model:\n  {listed(faults)}\n'
            'Use the config that the checkpoint was trained with.'
        )
    return kept


@HOOKS.register_module()
class CheckpointFitHook(Hook):
    """Stops a run whose checkpoint does not fit its model.

    `CheckedRunner` leaves the loading to it; mmengine's own runner loads once more.

    Args:
        may_lack_upsamplers: Whether the upsamplers' keys may be missing, as in a host model's
            released checkpoint; they are listed. Default: ``False``.
        may_lack: Regular expressions for further keys that may be missing or have another shape,
            e.g. ``decode_head.conv_seg`` for another number of classes. Default: none.
    """

    def __init__(self, may_lack_upsamplers: bool = False, may_lack: Sequence[str] = ()) -> None:
        self.may_lack_upsamplers = may_lack_upsamplers
        self.may_lack = [may_lack] if isinstance(may_lack, str) else list(may_lack)
        self.kept: list[str] = []  # keys that kept their values

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Load the checkpoint."""
        may_lack = list(self.may_lack)
        if self.may_lack_upsamplers:
            ups = named_upsamplers(unwrapped(runner.model))
            may_lack += [re.escape(f'{name}.') for name, _ in ups]
        self.kept = load_fitting(runner.model, checkpoint, may_lack)
