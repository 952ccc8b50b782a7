"""What tables call the backbones of OpenMMLab's libraries."""

from .configs import type_name

_TRANSFORMERS = {  # class, width, depths
    'MiT-B0': ('MixVisionTransformer', 32, [2, 2, 2, 2]),
    'MiT-B1': ('MixVisionTransformer', 64, [2, 2, 2, 2]),
    'MiT-B2': ('MixVisionTransformer', 64, [3, 4, 6, 3]),
    'MiT-B3': ('MixVisionTransformer', 64, [3, 4, 18, 3]),
    'MiT-B4': ('MixVisionTransformer', 64, [3, 8, 27, 3]),
    'MiT-B5': ('MixVisionTransformer', 64, [3, 6, 40, 3]),
    'Swin-T': ('SwinTransformer', 96, [2, 2, 6, 2]),
    'Swin-S': ('SwinTransformer', 96, [2, 2, 18, 2]),
    'Swin-B': ('SwinTransformer', 128, [2, 2, 18, 2]),
    'Swin-L': ('SwinTransformer', 192, [2, 2, 18, 2]),
}


def transformer_of(backbone: dict) -> str | None:
    """The name of a backbone, e.g. ``'Swin-T'``, or ``None``."""
    depths = list(backbone.get('num_layers') or backbone.get('depths') or ())
    spelled_out = type_name(backbone), backbone.get('embed_dims'), depths
    return next((name for name, x in _TRANSFORMERS.items() if x == spelled_out), None)
