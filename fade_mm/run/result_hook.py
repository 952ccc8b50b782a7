"""What a run was and what it scored, beside its checkpoints."""

import datetime
import hashlib
import math
import os
import platform
import re
import subprocess
from pathlib import Path

import torch
import yaml
from mmengine.dist import get_world_size, master_only
from mmengine.hooks import Hook

from fade_mm import __version__, shipped
from fade_mm.hosts.base import host_of
from fade_mm.registry import HOOKS

from .naming import data_of, host_name, upsampler_of
from .results import dump, write

_ROOT = shipped.root()
_HERE_ALONE = ('ann_file', 'data_root', 'num_workers', 'seed')  # options that change no result


@HOOKS.register_module()
class ResultHook(Hook):
    """Writes an entry of ``docs/results.yml`` into the work dir.

    Training writes ``result.yml``, after each validation and at its end, so that an interrupted run
    has told how far it came, and a resumed one goes on with the scores that are there. Testing
    writes ``test_result.yml``, with the seed and the budget that the checkpoint names. What is not
    known is null. Other hooks may add scores: a dict ``result_scores`` that they hold.

    Args:
        config: The config's path or name, as given to the tool.
        options: Values that override the config's. Default: none.
    """

    priority = 'VERY_LOW'  # after the checkpoint is saved

    def __init__(self, config: str, options: dict | None = None) -> None:
        file = config if os.path.isfile(config) else shipped.find_config(config)
        self.config = _without_place(os.path.abspath(file)) if file else config
        self.options = {
            name: _without_place(value if isinstance(value, int | float) else str(value))
            for name, value in (options or {}).items()
            if name.rpartition('.')[2] not in _HERE_ALONE
        }
        self.commit = _commit()  # now: at the end of a run, the files may be others
        self._curve = None  # scores by iteration or epoch, while training
        self._meta = {}

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Take what a checkpoint says of the run that it is from."""
        self._meta = checkpoint.get('meta') or {}

    @master_only
    def before_train(self, runner) -> None:
        """Go on with the scores of the run that is resumed."""
        self._curve = {}
        result = Path(runner.work_dir, 'result.yml')
        if runner._resume and result.is_file():
            entry = yaml.safe_load(result.read_text(encoding='utf-8'))
            self._curve = {**entry['curve'], int(entry['budget'].split()[0]): entry['scores']}
            now = getattr(runner, _unit(runner.cfg))
            self._curve = {step: scores for step, scores in self._curve.items() if step <= now}

    @master_only
    def after_val_epoch(self, runner, metrics: dict | None = None) -> None:
        """Write what training has come to."""
        if self._curve is not None:
            self._curve[getattr(runner, _unit(runner.cfg))] = _scores(runner, metrics)
            self.after_train(runner)

    @master_only
    def after_train(self, runner) -> None:
        """Write what training has come to; without a validation now, without scores."""
        unit = _unit(runner.cfg)
        now = getattr(runner, unit)
        entry = self._entry(
            runner,
            data=data_of(runner.cfg.get('val_dataloader') or runner.cfg.train_dataloader),
            seed=runner.seed,
            budget=_budget(now, unit),
            scores=self._curve.get(now, {}),
            curve={step: scores for step, scores in self._curve.items() if step < now},
            checkpoint_sha256=_sha256(runner.message_hub.get_info('last_ckpt')),
        )
        write(Path(runner.work_dir, 'result.yml'), dump(entry))

    @master_only
    def after_test_epoch(self, runner, metrics: dict | None = None) -> None:
        """Write what the checkpoint has scored."""
        unit = _unit(runner.cfg)
        entry = self._entry(
            runner,
            data=data_of(runner.cfg.test_dataloader),
            seed=self._meta.get('seed'),
            budget=_budget(self._meta.get(unit), unit),
            scores=_scores(runner, metrics),
            curve={},
            checkpoint_sha256=_sha256(runner.cfg.load_from),
        )
        write(Path(runner.work_dir, 'test_result.yml'), dump(entry))

    def _entry(
        self, runner, data, seed, budget, scores, curve, checkpoint_sha256
    ) -> dict[str, object]:
        processes = get_world_size()
        notes = [f'{processes} processes'] if processes > 1 else []
        notes += ['test-time augmentation'] if 'module' in runner.cfg.model else []
        return dict(
            task=host_of(runner.cfg).task_of(runner.cfg),
            data=data,
            host=host_name(runner.cfg),
            upsampler=upsampler_of(runner.cfg),
            seed=seed,
            config=self.config,
            options=self.options,
            budget=budget,
            scores=scores,
            curve=curve,
            machine=_machine(),
            threads=torch.get_num_threads(),
            date=datetime.date.today(),
            fade_mm=self.commit,
            torch=str(torch.__version__),
            checkpoint_sha256=checkpoint_sha256,
            note='; '.join(notes) or None,
        )


def _without_place(value: object) -> object:
    """A path within this repository where it is one, else its last part, if it is absolute."""
    if not isinstance(value, str) or not os.path.isabs(value):
        return value
    path = Path(value)
    return str(path.relative_to(_ROOT)) if path.is_relative_to(_ROOT) else path.name


def _unit(cfg) -> str:
    """What a config's training is counted in."""
    return 'iter' if 'max_iters' in (cfg.get('train_cfg') or {}) else 'epoch'


def _budget(count: int | None, unit: str) -> str | None:
    word = {'iter': 'iteration', 'epoch': 'epoch'}[unit]
    return None if count is None else f'{count} {word}' + 's' * (count != 1)


def _scores(runner, metrics: dict | None) -> dict[str, float]:
    """The metrics and what hooks add, as finite numbers of four digits after the point."""
    found = dict(metrics or {})
    for hook in runner.hooks:
        found.update(getattr(hook, 'result_scores', {}))
    numbers = {}
    for name, value in found.items():
        try:
            number = round(float(value), 4)
        except (TypeError, ValueError):
            continue
        if math.isfinite(number):
            numbers[name] = number
    return numbers


def _machine() -> str:
    """The name of the graphics card, else of the processor."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    cpuinfo = Path('/proc/cpuinfo')
    named = cpuinfo.is_file() and re.search(r'model name\s*: (.+)', cpuinfo.read_text())
    return named[1] if named else platform.processor() or platform.machine()


def _commit() -> str | None:
    """The commit of this checkout, with ``+dirty`` where files were changed; else the release."""
    if not (_ROOT / '.git').exists():  # installed, perhaps within somebody else's checkout
        return __version__
    command = ['git', 'describe', '--always', '--exclude=*', '--abbrev=12', '--dirty=+dirty']
    try:
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() or None


def _sha256(checkpoint: str | None) -> str | None:
    if not checkpoint or not os.path.isfile(checkpoint):
        return None
    with open(checkpoint, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()
