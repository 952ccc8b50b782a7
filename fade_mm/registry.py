"""The registries of scope ``fade_mm``, children of mmengine's.

mmengine imports this module when a config names ``fade_mm.Something``, and swallows its import
errors: nothing here may fail.
"""

from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import Registry

MODELS = Registry(
    'model',
    parent=MMENGINE_MODELS,
    scope='fade_mm',
    locations=['fade_mm.upsamplers', 'fade_mm.models'],
)
METRICS = Registry(
    'metric', parent=MMENGINE_METRICS, scope='fade_mm', locations=['fade_mm.evaluation']
)
HOOKS = Registry(
    'hook',
    parent=MMENGINE_HOOKS,
    scope='fade_mm',
    locations=['fade_mm.engine', 'fade_mm.visualization'],
)
