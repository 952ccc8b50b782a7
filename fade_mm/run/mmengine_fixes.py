"""What mmengine 0.10.7, the latest release, does wrong, and how it is mended here.

A function or class each. Where an issue is known, its number stands there; no release mends one of
them. (Reading checkpoints, mmengine#1655, has a package of its own, `fade_mm.run.checkpoint`; what
the analyser of multiply-adds leaves in a model that fails, `fade_mm.hosts.traced.SinglePass` keeps
away from it by a copy.)
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import torch
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.hooks import CheckpointHook, EarlyStoppingHook, Hook, LoggerHook
from mmengine.model import ImgDataPreprocessor
from mmengine.registry import METRICS, Registry
from mmengine.runner import Runner, find_latest_checkpoint
from torch import nn

from fade_mm.errors import SetupError, unregistered
from fade_mm.hosts.base import find
from fade_mm.hosts.configs import dicts


def find_forks() -> None:
    """Let ``LIBRARY::`` find a library of which a fork is installed, as onedl-mmsegmentation is.

    mmengine, and its own fork too, look for a distribution of the library's name; that of another
    name is found by its module.
    """
    for module, package in MODULE2PACKAGE.items():
        try:
            version(package)
        except PackageNotFoundError:
            if find_spec(module):
                MODULE2PACKAGE[module] = module


def fit_to_machine(cfg: Config) -> None:
    """Let a config run as it is without a GPU, and without worker processes.

    mmengine has SyncBN and nccl fail on a CPU and gives data parallelism a device's number there;
    a data loader that inherits ``persistent_workers`` fails without workers.
    """
    for node in dicts(cfg._cfg_dict):
        if node.get('num_workers') == 0:
            node['persistent_workers'] = False
    if torch.cuda.is_available():
        return
    if cfg.launcher != 'none':
        cfg.model_wrapper_cfg = dict(
            type='MMDistributedDataParallel',
            device_ids=None,
            broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False),
        )
    for node in dicts(cfg._cfg_dict):
        if node.get('type') == 'SyncBN':
            node['type'] = 'BN'
        if node.get('backend') == 'nccl':
            node['backend'] = 'gloo'


def join_processes(launcher: str) -> None:
    """Join the other processes of a ``torchrun`` without a GPU, which mmengine cannot do."""
    if launcher == 'pytorch' and not torch.cuda.is_available():
        torch.distributed.init_process_group('gloo')


def tell_rules(cfg: Config) -> None:
    """Let ``save_best`` and early stopping know which direction of a score is better.

    mmengine guesses it by parts of a score's name and fails at others (mmocr#750). Metrics of ours
    say it in ``better``, by score.
    """
    scope = cfg.get('default_scope')
    known = [_directions(node, scope) for node in dicts(cfg.get('val_evaluator'))]
    better = {name: rule for directions in known for name, rule in directions.items()}
    first = set(known[0].values()) if known else set()
    for node in dicts([cfg.get('default_hooks'), cfg.get('custom_hooks')]):
        asked = node.get('save_best', node.get('monitor'))
        if asked is None or node.get('rule') is not None:
            continue
        if asked == 'auto':  # the first score of the first metric
            rules = list(first)[:1] if len(first) == 1 else [None]
        else:
            rules = [better.get(x) for x in ([asked] if isinstance(asked, str) else asked)]
        if all(rules):
            node['rule'] = rules[0] if isinstance(asked, str) else rules


def _directions(evaluator: dict, scope: str | None) -> dict[str, str]:
    """What a metric says of its scores, by their full names."""
    metric = find(METRICS, evaluator.get('type'), scope)
    prefix = evaluator.get('prefix') or getattr(metric, 'default_prefix', None)
    directions = getattr(metric, 'better', {})
    return {f'{prefix}/{x}' if prefix else x: rule for x, rule in directions.items()}


def check_name(node: object, registry: Registry, scope: str | None) -> None:
    """Raise where nothing has the name that a config asks for, where mmengine would call that.

    Args:
        node: The part of the config, or whatever stands in its place.
        registry: Where its ``type`` is looked up.
        scope: The config's ``default_scope``.

    Raises:
        SetupError: with the nearest name that there is.
    """
    kind = node.get('type') if isinstance(node, dict) else None
    if isinstance(kind, str) and find(registry, kind, scope) is None:
        raise SetupError(unregistered(kind, registry))


def watch_channels(model: nn.Module) -> None:
    """Let a model refuse pictures of which its preprocessor would drop channels in silence.

    mmengine's takes the first three of any number where it turns their order around.

    Args:
        model: The model, whose preprocessor gets a hook.
    """
    for module in model.modules():
        if isinstance(module, ImgDataPreprocessor) and module._channel_conversion:
            module.register_forward_pre_hook(_check_channels)


def _check_channels(preprocessor: ImgDataPreprocessor, args: tuple) -> None:
    pictures = args[0]['inputs'] if isinstance(args[0], dict) else ()
    for picture in pictures if isinstance(pictures, list | tuple | torch.Tensor) else ():
        if picture.dim() >= 3 and picture.shape[-3] > 3:
            raise SetupError(
                f'pictures have {picture.shape[-3]} channels, and model.data_preprocessor would '
                "drop all but three: read three (color_type='color' in LoadImageFromFile), or set "
                'its bgr_to_rgb=False, with one number each for mean and std, e.g. mean=[114.0] '
                f'and std=[57.0], and model.backbone.in_channels={picture.shape[-3]}'
            )


def check_scores(hooks: Iterable[Hook], scores: Iterable[str]) -> None:
    """Raise where a hook goes by a score that a validation has not, which mmengine would look up.

    Args:
        hooks: A runner's.
        scores: The names of those that there are.

    Raises:
        SetupError: with these names.
    """
    for hook in hooks:
        asked = None
        if isinstance(hook, CheckpointHook):
            asked = hook.save_best
        elif isinstance(hook, EarlyStoppingHook) and hook.strict:
            asked = hook.monitor
        for name in [asked] if isinstance(asked, str) else asked or ():
            if name != 'auto' and name not in scores:
                raise SetupError(
                    f"{type(hook).__name__} goes by '{name}', but the scores of a validation are "
                    f'{", ".join(scores)}'
                )


def separate_logs(runner: Runner) -> None:
    """Give each process a file for its test's metrics; mmengine has all write into one at once."""
    for hook in runner.hooks:
        if isinstance(hook, LoggerHook) and runner.rank:
            hook.json_log_path = f'{runner.timestamp}.rank{runner.rank}.json'


def latest_checkpoint(work_dir: str) -> str | None:
    """The checkpoint that a work dir names as its last one, also after the dir was moved."""
    path = find_latest_checkpoint(work_dir)
    if path is None:
        return None
    moved = os.path.join(work_dir, os.path.basename(path))
    return moved if os.path.isfile(moved) else path


def take_to(work_dir: str, runtime_info: dict) -> None:
    """Let the best checkpoints be those in this work dir: what lies elsewhere is not replaced."""
    for key in [key for key in runtime_info if key.startswith(('best_ckpt', 'last_ckpt'))]:
        moved = os.path.join(work_dir, os.path.basename(runtime_info.pop(key) or ''))
        if os.path.isfile(moved):
            runtime_info[key] = moved


def drop_functions(checkpoint: dict) -> None:
    """Keep the functions out of a checkpoint that mmengine takes for a schedule's state.

    `OneCycleLR` keeps one that it has anyway; with it, the checkpoint names a class of mmengine's,
    so that only unpickling that may run code would load it.

    Args:
        checkpoint: About to be saved.
    """
    for node in dicts(checkpoint.get('param_schedulers')):
        for name in [name for name, value in node.items() if callable(value)]:
            del node[name]


class Advanced:
    """The data of an iteration-based training that goes on.

    mmengine asks for every batch that was trained on before, and drops it (mmengine#1520); those
    are not read here.

    Args:
        iterator: Gives the batches that are left.
        steps: How many were trained on.
    """

    def __init__(self, iterator: Iterator, steps: int) -> None:
        self.iterator = iterator
        self.steps = steps

    def __iter__(self) -> 'Advanced':
        return self

    def __next__(self):
        if self.steps:
            self.steps -= 1
            return None
        return next(self.iterator)


@contextmanager
def naming_empty_data(dataloader: dict, place: str) -> Iterator[None]:
    """Say of a data set without samples that it is one (mmdetection#9610)."""
    try:
        yield
    except ValueError as error:
        if 'need at least one array' not in str(error):
            raise
        config = {k: v for k, v in dataloader['dataset'].items() if k != 'pipeline'}
        raise SetupError(
            f'{place}: the data set has no samples: {config}; check its folders, the suffixes of '
            'its file names, and that metainfo.classes names the categories of its annotations'
        ) from error
