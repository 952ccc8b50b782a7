"""mmsegmentation's ResNet that also gives the feature of its stem."""

import re
from collections.abc import Sequence

from mmseg.models.backbones import ResNet as MMSegResNet
from torch import Tensor

from fade_mm.registry import MODELS


@MODELS.register_module()
class ResNet(MMSegResNet):
    """mmsegmentation's ResNet, whose stem gives a feature, too.

    Args:
        with_stem: Whether the first feature is that of the stem, after its ReLU, at half of the
            image's size. Default: ``False``.
        frozen: Regular expressions; parameters whose names one of them matches from the start are
            not trained, while norms go on taking statistics. Default: none.
        *args, **kwargs: Arguments of mmsegmentation's ``ResNet``.

    Raises:
        ValueError: a regular expression matches no parameter.
    """

    def __init__(
        self, *args, with_stem: bool = False, frozen: Sequence[str] = (), **kwargs
    ) -> None:
        super().__init__(*args, **kwargs)
        self.with_stem = with_stem
        for pattern in frozen:
            matched = [p for name, p in self.named_parameters() if re.match(pattern, name)]
            if not matched:
                raise ValueError(f'no parameter of the backbone is named {pattern!r}, as in frozen')
            for parameter in matched:
                parameter.requires_grad = False

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Features ``(N, C_i, h_i, w_i)``, from fine to coarse.

        Args:
            x: Images ``(N, in_channels, h, w)``.
        """
        if not self.with_stem:
            return super().forward(x)
        x = self.stem(x) if self.deep_stem else self.relu(self.norm1(self.conv1(x)))
        found = [x]
        x = self.maxpool(x)
        for i, name in enumerate(self.res_layers):
            x = getattr(self, name)(x)
            if i in self.out_indices:
                found.append(x)
        return tuple(found)
