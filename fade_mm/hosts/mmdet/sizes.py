"""What tables call the sizes of backbones that are scaled."""

from fade_mm.hosts.configs import type_name

_SIZES = {  # depth, width
    'CSPDarknet': {'nano': (0.33, 0.25), 'tiny': (0.33, 0.375)},
    'CSPNeXt': {'tiny': (0.167, 0.375)},
}
_LARGER = {'s': (0.33, 0.5), 'm': (0.67, 0.75), 'l': (1, 1), 'x': (1.33, 1.25)}


def size_of(backbone: dict) -> str | None:
    """The size of a backbone of YOLOX or RTMDet, e.g. ``'tiny'``, or ``None``."""
    kind = type_name(backbone)
    if kind not in _SIZES:
        return None
    factors = backbone.get('deepen_factor', 1), backbone.get('widen_factor', 1)
    return next((name for name, x in (_SIZES[kind] | _LARGER).items() if x == factors), None)
