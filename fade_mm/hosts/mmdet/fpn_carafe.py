"""mmdetection's FPN_CARAFE with upsamplers by config."""

from mmdet.models.necks import FPN_CARAFE as MMDetFPN_CARAFE
from mmengine.config import ConfigDict
from torch import Tensor, nn

from fade_mm.hosts.base import StandIn, start_upsamplers
from fade_mm.hosts.top_down import build_top_down, top_down
from fade_mm.registry import MODELS


@MODELS.register_module()
class FPN_CARAFE(StandIn, MMDetFPN_CARAFE):
    """mmdetection's FPN_CARAFE, whose extra levels take part in the top-down path.

    With the host's ``'nearest'``, ``'bilinear'``, or with its ``upsample_kernel`` ``'deconv'`` or
    ``'pixel_shuffle'``, it is the host. Every other upsampler is ours, ``'carafe'`` too: mmcv's
    operator runs on accelerators only, ours everywhere. The host's ``upsample_modules.N`` of a
    checkpoint load into the same layers of ours.

    Args:
        upsample_cfg: Config of the upsamplers; see `build_upsampler` (FADE's gate is off unless
            asked for, since the neck adds the lateral feature itself). Default: ``None``, CARAFE
            as in the host.
        *args, **kwargs: Arguments of the host's ``FPN_CARAFE``.
    """

    stock_upsampler = 'CARAFE'
    stock_types = ('nearest', 'bilinear', 'deconv', 'pixel_shuffle', 'carafe')

    def __init__(self, *args, upsample_cfg: dict | None = None, **kwargs) -> None:
        upsample_cfg = {'type': 'carafe'} if upsample_cfg is None else upsample_cfg
        is_hosts = _is_hosts(upsample_cfg)
        hosts = ConfigDict(upsample_cfg if is_hosts else {'type': 'nearest'})
        super().__init__(*args, upsample_cfg=hosts, **kwargs)
        self.upsamplers = None
        if not is_hosts:
            del self.upsample_modules
            levels = len(self.lateral_convs)
            self.upsamplers = build_top_down(upsample_cfg, self.out_channels, levels)
            self._register_load_state_dict_pre_hook(_into_upsamplers, with_module=True)

    def init_weights(self) -> None:
        """Start the host's layers, which it does to every convolution, then the upsamplers."""
        super().init_weights()
        start_upsamplers(self)

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Pyramid features, from fine to coarse.

        Args:
            inputs: Backbone features ``(N, in_channels[i], h_i, w_i)``, from fine to coarse.

        Returns:
            ``num_outs`` features of ``out_channels`` channels.
        """
        if self.upsamplers is None:
            return super().forward(inputs)
        if len(inputs) != self.num_ins:
            raise ValueError(f'expected {self.num_ins} backbone features, got {len(inputs)}')
        used = inputs[self.start_level : self.backbone_end_level]
        laterals = [conv(x) for conv, x in zip(self.lateral_convs, used, strict=False)]
        x = used[-1]
        for conv in self.lateral_convs[len(used) :]:
            x = conv(x)
            laterals.append(x)
        merged = top_down(laterals, self.upsamplers)
        return tuple(conv(x) for conv, x in zip(self.fpn_convs, merged, strict=True))


def _is_hosts(upsample_cfg: dict) -> bool:
    """Whether a config is of what the host upsamples with itself."""
    if not isinstance(upsample_cfg, dict):
        return False  # `build_upsampler` says why not
    kind = upsample_cfg.get('type')
    with_kernel = kind in ('deconv', 'pixel_shuffle') and 'upsample_kernel' in upsample_cfg
    return kind in ('nearest', 'bilinear') or with_kernel


def _into_upsamplers(module: nn.Module, state_dict: dict, prefix: str, *_) -> None:
    """Give the host's parameters the names of ours, in place, if ours have them."""
    theirs, ours = f'{prefix}upsample_modules.', f'{prefix}upsamplers.'
    for name in module.upsamplers.state_dict():
        name = name.replace('.layer.', '.')
        if theirs + name in state_dict:
            state_dict[ours + name] = state_dict.pop(theirs + name)
