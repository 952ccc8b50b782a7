"""A work dir of version 0.1.0 stays good: its config, its checkpoint, its run.

`tests/data/work_dir_0.1` is what that version's `CheckedRunner` left after two iterations, from
random weights; `outputs.json` are the logits that its heads then made of `IMAGE`.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

from fade_mm.run import load_config
from fade_mm.run.checkpoint import load_checkpoint
from tests.tools import data_options, run

pytest.importorskip('mmseg')

WORK_DIR = Path(__file__).parents[1] / 'data/work_dir_0.1'
IMAGE = (torch.arange(3 * 31 * 45).reshape(1, 3, 31, 45) * 0.37).sin()


@torch.no_grad()
def test_its_model_computes_what_it_computed():
    cfg = load_config(str(WORK_DIR / 'tiny.py'))
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(cfg.model).eval()
    load_checkpoint(model, str(WORK_DIR / 'iter_2.pth'))
    features = model.extract_feat(IMAGE)
    heads = [model.decode_head, *model.auxiliary_head]
    for head, values in zip(
        heads, json.loads((WORK_DIR / 'outputs.json').read_text()), strict=True
    ):
        logits = torch.tensor(values).reshape(1, 3, 8, 12)
        torch.testing.assert_close(head(features), logits, rtol=1e-4, atol=1e-4)


def test_its_run_goes_on(segmentation_root, tmp_path):
    work = shutil.copytree(WORK_DIR, tmp_path / 'work')
    # What the optimizer has learned is for A2U with the branch that it had by default.
    branch = 'model.auxiliary_head.1.upsample_cfg.downsampling=True'
    options = [*data_options(segmentation_root), branch, 'train_cfg.max_iters=4']
    run('train', WORK_DIR / 'tiny.py', '--work-dir', work, '--resume', '--cfg-options', *options)
    assert (work / 'iter_4.pth').is_file()
    assert 'iter_4' in (work / 'last_checkpoint').read_text()
