"""Loading checkpoints into models that they fit, where mmengine only warns."""

import re
from collections import OrderedDict
from collections.abc import Sequence

from mmengine.hooks import Hook
from torch import Tensor, nn

from fade_mm.errors import SetupError, listed
from fade_mm.hosts.base import unwrapped
from fade_mm.hosts.configs import type_name
from fade_mm.registry import HOOKS
from fade_mm.upsamplers import named_upsamplers

from .safe_loading import read_checkpoint


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
    loaded = weights_of(checkpoint)
    state_dict = OrderedDict(_without_wrappers(loaded, set(model.state_dict())))
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


_PLACES = ('state_dict', 'model', 'model_state_dict', 'module', 'net', 'params')
_AVERAGES = ('ema_state_dict', 'state_dict_ema', 'model_ema', 'params_ema', 'ema')
_WRAPPERS = ('module.', '_orig_mod.', 'model.')  # data parallel, torch.compile, Lightning


def weights_of(checkpoint: dict) -> dict:
    """The state dict in a checkpoint of any usual layout; averages only where there is no other.

    Args:
        checkpoint: What a file holds.

    Raises:
        SetupError: with what there is instead of weights.
    """
    for place in (*_PLACES, *_AVERAGES):
        found = checkpoint.get(place)
        holds = isinstance(found, dict) and any(isinstance(x, Tensor) for x in found.values())
        if holds or found == {}:
            return found
    if any(isinstance(x, Tensor) for x in checkpoint.values()):
        return checkpoint
    kinds = (f'{key} ({type(value).__name__})' for key, value in checkpoint.items())
    raise SetupError(
        f'state_dict must be a dict of tensors; the checkpoint has {", ".join(kinds) or "nothing"}'
    )


def _without_wrappers(weights: dict, own: set[str]) -> dict[str, Tensor]:
    """Tensors by the names that a model has for them, without what a wrapper puts before all."""
    named = {str(key): value for key, value in weights.items() if isinstance(value, Tensor)}
    while not own.intersection(named):
        prefix = next((x for x in _WRAPPERS if all(key.startswith(x) for key in named)), None)
        if prefix is None or not named:
            break
        named = {key.removeprefix(prefix): value for key, value in named.items()}
    return named


def check_pretrained(model: nn.Module) -> None:
    """Raise where a part has not got half of its weights from the file that it was to start from.

    mmengine only warns of what does not fit.

    Args:
        model: After its initialisation.

    Raises:
        SetupError: with names that the file has, and names that the part has.
    """
    for name, module in model.named_modules():
        init_cfg = getattr(module, 'init_cfg', None)
        for init in init_cfg if isinstance(init_cfg, list) else [init_cfg]:
            if type_name(init) in ('Pretrained', 'PretrainedInit') and init.get('checkpoint'):
                _check_start(name, module, init['checkpoint'])


def _check_start(name: str, module: nn.Module, filename: str) -> None:
    weights = weights_of(read_checkpoint(filename))
    tensors = [x for x in weights.values() if isinstance(x, Tensor) and x.numel() > 1]
    sums = {(x.shape, x.double().sum().item()) for x in tensors}
    own = {key: x for key, x in module.state_dict().items() if x.numel() > 1}
    lacking = [key for key, x in own.items() if (x.shape, x.double().sum().item()) not in sums]
    if sum(own[key].numel() for key in lacking) <= sum(x.numel() for x in own.values()) / 2:
        return
    others = [key for key in weights if key not in own]
    raise SetupError(
        f'{len(lacking)} of {len(own)} weights of model.{name} are not in {filename}, and would '
        f'train from scratch: the file has {", ".join(others[:3])}, ..., the model needs '
        f'{", ".join(lacking[:3])}, ...; init_cfg=dict(prefix=...) takes a part of a file; if that '
        'is as it should be, check_pretrained=False'
    )


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
