"""Learning rate and weight decay of upsamplers, by their class."""

from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from fade_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS
from fade_mm.upsamplers import Upsampler


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class UpsamplerOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor, which knows one option more: ``upsampler``.

    ``paramwise_cfg=dict(upsampler=dict(lr_mult=0.1, decay_mult=0.0), ...)`` multiplies the rates
    of all parameters of upsamplers, on top of what the other options make of them.

    Args:
        optim_wrapper_cfg: As in mmengine's ``DefaultOptimWrapperConstructor``.
        paramwise_cfg: Likewise; ``upsampler`` may have ``lr_mult`` and ``decay_mult``.
            Default: ``None``.

    Raises:
        ValueError: ``upsampler`` has another key, or the optimizer's config lacks the rate.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        paramwise_cfg = dict(paramwise_cfg or {})
        self.upsampler = dict(paramwise_cfg.pop('upsampler', {}))
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        rates = {'lr_mult': ('lr', self.base_lr), 'decay_mult': ('weight_decay', self.base_wd)}
        self._within = False  # an upsampler
        self._multipliers = []
        for name, factor in self.upsampler.items():
            if name not in rates:
                raise ValueError(f'upsampler takes {" and ".join(rates)}, got {name}')
            key, base = rates[name]
            if base is None:
                raise ValueError(f'upsampler.{name} needs optimizer.{key}')
            self._multipliers.append((key, base, factor))
        # mmengine makes groups for single parameters only if there are options
        self.paramwise_cfg.setdefault('custom_keys', {})

    def add_params(self, params: list[dict], module: nn.Module, *args, **kwargs) -> None:
        """Add a module's parameters to the groups, an upsampler's with its own rates."""
        start, outer = len(params), self._within
        self._within = outer or isinstance(module, Upsampler)
        super().add_params(params, module, *args, **kwargs)
        if self._within and not outer:  # one may wrap another
            for group in params[start:]:
                for key, base, factor in self._multipliers:
                    group[key] = group.get(key, base) * factor
        self._within = outer
