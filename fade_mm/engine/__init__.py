"""Running a config: checkpoints, checks before a run, exact resumption."""

from .checkpoint import use_safe_checkpoints
from .config import (
    add_hook,
    check_loops,
    check_packages,
    check_weights,
    join_processes,
    load_config,
    pretrained_weights,
    type_name,
)
from .errors import SetupError
from .fit import CheckpointFitHook, load_checkpoint
from .official import load_official_segformer
from .random_state import RandomStateHook
from .result_hook import ResultHook
from .resumption import finished, prepare_resumption
from .runner import CheckedRunner, evaluate
from .tool import run_tool

__all__ = [
    'CheckedRunner',
    'CheckpointFitHook',
    'RandomStateHook',
    'ResultHook',
    'SetupError',
    'add_hook',
    'check_loops',
    'check_packages',
    'check_weights',
    'evaluate',
    'finished',
    'join_processes',
    'load_checkpoint',
    'load_config',
    'load_official_segformer',
    'prepare_resumption',
    'pretrained_weights',
    'run_tool',
    'type_name',
    'use_safe_checkpoints',
]
