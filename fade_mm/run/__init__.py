"""Running a config: checkpoints, checks before a run, exact resumption."""

from fade_mm import registry  # noqa: F401  (says what to install, if mmengine is missing)
from fade_mm.errors import SetupError
from fade_mm.memory import keep_freed_memory

from .checkpoint import (
    CheckpointFitHook,
    check_output,
    load_checkpoint,
    load_fitting,
    read_checkpoint,
    save_checkpoint,
    use_safe_checkpoints,
)
from .config import (
    add_hook,
    check_loops,
    check_weights,
    load_config,
    monitor_upsamplers,
    pretrained_weights,
)
from .drawn_predictions import DrawingHook, PredictionHook
from .exact_resumption import RandomStateHook
from .mmengine_fixes import join_processes
from .models import build_model, init_model
from .optim import UpsamplerOptimWrapperConstructor
from .result_hook import ResultHook
from .resume_from import finished, prepare_resumption
from .runner import CheckedRunner, evaluate
from .tool import ToolParser, run_tool

__all__ = [
    'CheckedRunner',
    'CheckpointFitHook',
    'DrawingHook',
    'PredictionHook',
    'RandomStateHook',
    'ResultHook',
    'SetupError',
    'ToolParser',
    'UpsamplerOptimWrapperConstructor',
    'add_hook',
    'build_model',
    'check_loops',
    'check_output',
    'check_weights',
    'evaluate',
    'finished',
    'init_model',
    'join_processes',
    'keep_freed_memory',
    'load_checkpoint',
    'load_config',
    'load_fitting',
    'monitor_upsamplers',
    'prepare_resumption',
    'pretrained_weights',
    'read_checkpoint',
    'run_tool',
    'save_checkpoint',
    'use_safe_checkpoints',
]
