"""SegFormer's backbone with the layer norms of its authors."""

from mmseg.models.backbones import MixVisionTransformer as MMSegMixVisionTransformer
from torch import nn

from fade_mm.registry import MODELS


@MODELS.register_module()
class MixVisionTransformer(MMSegMixVisionTransformer):
    """mmsegmentation's MiT, in which the norms after convolutions may have an eps of their own.

    NVlabs' code, on which the authors of FADE built, has 1e-5 there and 1e-6 in all other layer
    norms; mmsegmentation has 1e-6 everywhere.

    Args:
        conv_norm_eps: Eps of the layer norms behind the patch embeddings and the attentions'
            spatial reductions. Default: ``None``, that of ``norm_cfg``.
        **kwargs: Arguments of mmsegmentation's ``MixVisionTransformer``.
    """

    def __init__(self, *, conv_norm_eps: float | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        if conv_norm_eps is not None:
            for name, module in self.named_modules():
                if name.endswith('.norm') and isinstance(module, nn.LayerNorm):
                    module.eps = conv_norm_eps
