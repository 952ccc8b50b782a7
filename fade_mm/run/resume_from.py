"""Where a run goes on."""

from mmengine.config import Config

from fade_mm.errors import SetupError

from .checkpoint import read_checkpoint
from .config import check_weights
from .mmengine_fixes import latest_checkpoint


def prepare_resumption(cfg: Config, checkpoint: str) -> dict | None:
    """Let a config go on from a checkpoint, with the seed that its run had.

    Args:
        cfg: From `load_config`; receives ``resume``, ``load_from`` and the seed.
        checkpoint: Path or URL, or ``'auto'`` for the latest in the work dir, wherever that was
            when the checkpoint was written.

    Returns:
        The checkpoint; ``None`` where the work dir has none, and the run starts from its beginning.

    Raises:
        SetupError: the checkpoint is missing, or holds weights alone.
    """
    path = latest_checkpoint(cfg.work_dir) if checkpoint == 'auto' else checkpoint
    if path is None:
        cfg.resume, cfg.load_from = False, None
        return None
    check_weights([path])
    content = read_checkpoint(path)
    meta = content.get('meta', {})
    if 'iter' not in meta:
        raise SetupError(f'{path} holds weights alone; start from it with load_from={path}')
    cfg.resume, cfg.load_from = True, path
    cfg.randomness = {**cfg.get('randomness', {}), 'seed': meta.get('seed')}
    return content


def finished(cfg: Config, meta: dict) -> str | None:
    """What to say of a run that has nothing left to train; ``None`` where it has."""
    for unit, key in (('iter', 'max_iters'), ('epoch', 'max_epochs')):
        most = cfg.train_cfg.get(key)
        if most is not None and meta[unit] >= most:
            return (
                f'There is nothing to resume: {cfg.load_from} has {unit} {meta[unit]} of {most}. '
                f'To train longer: --cfg-options train_cfg.{key}=N (and the schedules, '
                'param_scheduler, to match).'
            )
    return None
