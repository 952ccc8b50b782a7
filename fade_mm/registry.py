"""The registries of scope ``fade_mm``, children of mmengine's.

mmengine imports this module when a config names ``fade_mm.Something``, and swallows its import
errors: with mmengine, nothing here may fail.
"""

from fade_mm.openmmlab import check_python, command

try:
    from mmengine import registry as mmengine
    from mmengine.registry import Registry
except ImportError as error:
    check_python()
    packages = "'fade_mm[all]'"
    raise ImportError(
        f"this part of fade_mm needs OpenMMLab's libraries: mmengine cannot be imported ({error}); "
        f'run: {command(packages)}'
    ) from error


def _child(parent: Registry, *locations: str) -> Registry:
    return Registry(parent.name, parent=parent, scope='fade_mm', locations=list(locations))


MODELS = _child(
    mmengine.MODELS,
    'fade_mm.upsamplers',
    'fade_mm.hosts.stand_ins',
    'fade_mm.hosts.matting.a2u_matting',
    'fade_mm.hosts.matting.losses',
    'fade_mm.hosts.matting.preprocessor',
)
DATASETS = _child(
    mmengine.DATASETS, 'fade_mm.hosts.depth.dataset', 'fade_mm.hosts.matting.datasets'
)
TRANSFORMS = _child(
    mmengine.TRANSFORMS,
    'fade_mm.hosts.depth.transforms',
    'fade_mm.hosts.matting.loading',
    'fade_mm.hosts.matting.transforms',
)
VISUALIZERS = _child(mmengine.VISUALIZERS, 'fade_mm.hosts.matting.visualizer')
METRICS = _child(mmengine.METRICS, 'fade_mm.metrics')
HOOKS = _child(mmengine.HOOKS, 'fade_mm.run', 'fade_mm.analysis.hooks')
OPTIM_WRAPPER_CONSTRUCTORS = _child(mmengine.OPTIM_WRAPPER_CONSTRUCTORS, 'fade_mm.run')
HOSTS = Registry('host', scope='fade_mm', locations=['fade_mm.hosts'])
"""Which library a model belongs to, and what it answers: see `fade_mm.hosts.Host`."""
