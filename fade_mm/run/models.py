"""Models of configs."""

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import MODELS
from torch import nn

from fade_mm.errors import naming_build_errors
from fade_mm.hosts.base import host_of, in_scope_of

from . import mmengine_fixes
from .checkpoint import load_fitting, read_checkpoint


def build_model(cfg: Config) -> nn.Module:
    """The model of a config, in evaluation mode, without pretrained weights.

    Args:
        cfg: The whole config.

    Raises:
        SetupError: the model cannot be built.
    """
    with in_scope_of(cfg), naming_build_errors():
        model = MODELS.build(cfg.model).eval()
    mmengine_fixes.watch_channels(model)
    return model


def init_model(cfg: Config, checkpoint: str, device: str | None = None) -> nn.Module:
    """The model of a config with the weights of a checkpoint that fits it, to predict with.

    Args:
        cfg: The whole config.
        checkpoint: Its path or URL.
        device: Where the model goes. Default: the best there is.

    Returns:
        The model, with the config as ``cfg`` and names and colours of classes as ``dataset_meta``.

    Raises:
        SetupError: the model cannot be built, or the checkpoint read, or does not fit.
    """
    content = read_checkpoint(checkpoint)
    model = build_model(cfg)
    load_fitting(model, content)
    model.cfg = cfg
    model.dataset_meta = host_of(cfg).dataset_meta(cfg, content)
    return model.to(device or get_device())
