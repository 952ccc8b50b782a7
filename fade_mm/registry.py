"""The registries of scope ``fade_mm``, children of mmengine's, and configs by ``fade_mm::PATH``.

mmengine imports this module when a config names ``fade_mm.Something``, and swallows its import
errors: with mmengine, nothing here may fail.
"""

from fade_mm import shipped
from fade_mm.openmmlab import LibraryError, all_libraries, check_python, command

try:
    from mmengine import registry as mmengine
    from mmengine.config import Config
    from mmengine.config.utils import MODULE2PACKAGE
    from mmengine.registry import Registry
except ImportError as error:
    check_python()
    raise LibraryError(
        f"this part of fade_mm needs OpenMMLab's libraries: mmengine cannot be imported ({error}); "
        f'run: {command(*all_libraries())}'
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
    'fade_mm.hosts.ignored_labels',
    'fade_mm.hosts.matting.loading',
    'fade_mm.hosts.matting.transforms',
)
VISUALIZERS = _child(mmengine.VISUALIZERS, 'fade_mm.hosts.matting.visualizer')
METRICS = _child(mmengine.METRICS, 'fade_mm.metrics')
HOOKS = _child(mmengine.HOOKS, 'fade_mm.run', 'fade_mm.analysis.hooks')
OPTIM_WRAPPER_CONSTRUCTORS = _child(mmengine.OPTIM_WRAPPER_CONSTRUCTORS, 'fade_mm.run')
HOSTS = Registry('host', scope='fade_mm', locations=['fade_mm.hosts'])
"""Which library a model belongs to, and what it answers: see `fade_mm.hosts.Host`."""


MODULE2PACKAGE['fade_mm'] = 'fade_mm'  # for `mmengine.hub.get_config`
_path_of_base = Config._get_cfg_path


def _path_of_base_or_ours(name: str, heir: str) -> tuple[str, str | None]:
    """Where a config in ``_base_`` is, and the scope of what it holds.

    Ours are found from a checkout too, where mmengine looks into site-packages. They name the
    scopes of their libraries, and what an heir takes out of them keeps these.
    """
    if name.startswith('fade_mm::'):
        return str(shipped.config_file(name)), None
    return _path_of_base(name, heir)


Config._get_cfg_path = staticmethod(_path_of_base_or_ours)
