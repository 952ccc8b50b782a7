"""Looking into upsamplers while a model trains."""

from contextlib import ExitStack

import torch
from mmengine.dataset import pseudo_collate
from mmengine.dist import is_main_process, master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table

from fade_mm.hosts.base import host_of, unwrapped
from fade_mm.registry import HOOKS

from .statistics import (
    UpsamplerStatistics,
    fixed_views,
    has_begun,
    measuring_upsamplers,
    overview,
)
from .views import overlay, watch_upsamplers

_RATE = (
    'optim_wrapper.constructor=fade_mm.UpsamplerOptimWrapperConstructor '
    'optim_wrapper.paramwise_cfg.upsampler.lr_mult={:g} (docs/monitor.md)'
)
_ADVICE = {  # by whether a layer has begun to learn; and the factor for its rate
    True: (
        'the same at all points of all pictures, so that a fixed filter would do as well; lower '
        'rates for the layers of upsamplers help: ' + _RATE,
        0.1,
    ),
    False: (
        'as good as untrained; a longer training helps, or higher rates for the layers of '
        'upsamplers: ' + _RATE,
        10,
    ),
}


@HOOKS.register_module()
class UpsamplerMonitorHook(Hook):
    """Measures whether the upsamplers look at the picture: kernels, gates, offsets, indices.

    In training, every so many iterations and in the last, what `UpsamplerStatistics` measures of a
    batch goes to the scalars that the runner's visualizer writes (a file, TensorBoard), and the
    variations to the log; once a quarter of the training is over, a warning names the upsamplers
    whose kernels, offsets or indices are the same everywhere. In testing, if asked for, a table has
    the measures over all pictures. What `statistics.overview` makes of a look, if the iteration or
    test just done had one, is ``result_scores``, which `ResultHook` adds to a run's scores.

    Args:
        interval: How many iterations of training lie between two looks; 0: none. Default: 200.
        testing: Whether to measure in testing, too. Default: False.

    Raises:
        ValueError: ``interval`` is negative.
    """

    def __init__(self, interval: int = 200, testing: bool = False) -> None:
        if interval < 0:
            raise ValueError(f'interval must be 0 or more, got {interval}')
        self.interval = interval
        self.testing = testing
        self.result_scores: dict[str, float] = {}
        self._looking = ExitStack()
        self._found: dict[str, UpsamplerStatistics] | None = None
        self._warned: dict[bool, list[str]] | None = None

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Look, if it is time."""
        self.result_scores = {}
        is_last = runner.iter + 1 == runner.max_iters
        if self.interval and (runner.iter % self.interval == 0 or is_last):
            self._look(runner)

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Say what was seen."""
        found = self._seen()
        if not found:
            return
        scalars = {
            f'upsamplers/{name}.{measure}': value
            for name, summary in found.items()
            for measure, value in summary.items()
        }
        runner.visualizer.add_scalars(scalars, step=runner.iter + 1)
        for kind in ('kernels', 'offsets', 'index'):
            values = [x[f'{kind}.variation'] for x in found.values() if f'{kind}.variation' in x]
            if values:
                shown = ' '.join(f'{value:.3f}' for value in values)
                runner.logger.info(f'Variation of {kind} from point to point, by layer: {shown}')
        if runner.iter >= runner.max_iters / 4:
            self._warn(runner, found)

    def before_test(self, runner: Runner) -> None:
        """Look, if asked to."""
        if self.testing:
            self._look(runner)

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Print what was seen."""
        found = self._seen()
        if found:
            _print(found)
            self._warn(runner, found)

    def _look(self, runner: Runner) -> None:
        self._found = self._looking.enter_context(measuring_upsamplers(unwrapped(runner.model)))

    def _seen(self) -> dict[str, dict[str, float]]:
        """What there was to see, by upsampler and measure, of the main process's pictures."""
        self._looking.close()
        found, self._found = self._found or {}, None
        if not found or not is_main_process():
            return {}
        summaries = {name: statistics.summary() for name, statistics in found.items()}
        self.result_scores = overview(summaries)
        return {name: x for name, x in summaries.items() if x}

    def _warn(self, runner: Runner, found: dict[str, dict[str, float]]) -> None:
        """Name the upsamplers that do not depend on the picture, unless they are still the same."""
        named = {begun: [] for begun in _ADVICE}
        for name, summary in found.items():
            for kind in fixed_views(summary):
                named[has_begun(summary, kind)].append(f"{name}'s {kind}")
        if named != self._warned:
            options = (runner.cfg.get('optim_wrapper') or {}).get('paramwise_cfg') or {}
            rate = options.get('upsampler', {}).get('lr_mult', 1)
            for begun, names in named.items():
                text, factor = _ADVICE[begun]
                if names:
                    runner.logger.warning(f'{", ".join(names)}: {text.format(factor * rate)}')
        self._warned = named


def _print(found: dict[str, dict[str, float]]) -> None:
    """A table of measures, an upsampler's kernels, gate, offsets or index a row."""
    measures = ('mean', 'entropy', 'reach', 'variation', 'between_pictures')
    upsampler = Column('upsampler', no_wrap=True)
    table = Table(
        upsampler,
        'its',
        *(x.replace('_', ' ') for x in measures),
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for name, summary in found.items():
        for kind in dict.fromkeys(x.partition('.')[0] for x in summary):
            values = (summary.get(f'{kind}.{measure}') for measure in measures)
            table.add_row(name, kind, *('' if x is None else f'{x:.3f}' for x in values))
    Console().print(table)


@HOOKS.register_module()
class UpsamplerVisualizationHook(Hook):
    """Writes the upsamplers' gates and kernel entropies at every evaluation.

    The same few images of the validation set are shown each time, as the model gets them (resized,
    and from whatever storage), through the runner's visualiser, so they go wherever its
    ``vis_backends`` write (``LocalVisBackend``, ``TensorboardVisBackend``).

    Args:
        images: How many images, spread over the validation set. Default: 2.

    Raises:
        ValueError: ``images`` is below 1.
    """

    def __init__(self, images: int = 2) -> None:
        if images < 1:
            raise ValueError(f'images must be at least 1, got {images}')
        self.images = images

    @master_only
    def after_val_epoch(self, runner, metrics: dict | None = None) -> None:
        """Draw the overlays."""
        model = unwrapped(runner.model)
        host = host_of(model)
        if host.slides(model):
            runner.logger.warning(
                'gates and entropies are not drawn: the model predicts by sliding windows; with '
                'model.test_cfg.mode=whole they are'
            )
            return
        dataset = runner.val_dataloader.dataset
        count = min(self.images, len(dataset))
        for index in (i * len(dataset) // count for i in range(count)):
            sample = dataset[index]
            picture = host.picture_of(sample)
            if picture is None:
                runner.logger.warning(f'sample {index} has no picture to draw gates on')
                continue
            with torch.no_grad(), watch_upsamplers(model) as views:
                model.test_step(pseudo_collate([sample]))
            for name, view in views.items():
                maps = {'entropy': view.entropy, 'gate': view.gate}
                for kind, values in maps.items():
                    if values is not None:
                        drawn = overlay(picture, values, content=view.content)[..., ::-1].copy()
                        runner.visualizer.add_image(
                            f'image{index}.{name}.{kind}', drawn, runner.iter
                        )
