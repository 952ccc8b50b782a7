"""Pictures of other than three channels go through every tool."""

import re

import cv2
import numpy as np
import onnxruntime
import pytest

from tests.tools import CAMVID, ROOT, camvid_options, run

CONFIG = f"""
_base_ = {str(ROOT / CAMVID.format('fade'))!r}
four = dict(mean=[100.0] * 4, std=[50.0] * 4, bgr_to_rgb=False)
model = dict(data_preprocessor=four, backbone=dict(in_channels=4, num_layers=[1, 1, 1, 1]))
for loader in (_base_.train_dataloader, _base_.val_dataloader, _base_.test_dataloader):
    loader.dataset.img_suffix = '.png'
    loader.dataset.pipeline[0].color_type = 'unchanged'
train_dataloader, val_dataloader = _base_.train_dataloader, _base_.val_dataloader
test_dataloader = _base_.test_dataloader
test_pipeline = test_dataloader.dataset.pipeline
"""


@pytest.mark.slow
def test_four_channels_in_every_tool(segmentation_root, tmp_path, capsys):
    for path in (segmentation_root / 'images').rglob('*.jpg'):
        picture = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2BGRA)
        picture[..., 3] = 255 - picture[..., 0]
        cv2.imwrite(str(path.with_suffix('.png')), picture)
    cfg, work = tmp_path / 'mine.py', tmp_path / 'work'
    cfg.write_text(CONFIG)
    options = list(camvid_options(segmentation_root, iterations=2))
    swapped = '--cfg-options', *options
    run('train', cfg, '--work-dir', work, *swapped)
    weights = work / 'iter_2.pth'
    run('test', cfg, weights, '--work-dir', work, '--show-dir', tmp_path / 'shown', *swapped)
    assert len(list((tmp_path / 'shown').iterdir())) == 3
    pictures = segmentation_root / 'images/validation'
    demo = ('--out-dir', tmp_path / 'drawn', '--show-gate')
    run('image_demo', pictures / '0.png', cfg, weights, *demo, *swapped)
    assert len(list((tmp_path / 'drawn').glob('*.gate.png'))) == 6
    capsys.readouterr()
    run('get_flops', cfg, '--shape', 64, 64, *swapped)
    counted = {3: None, 4: re.search(r'\((\d[\d,]+)\)', capsys.readouterr().out)[1]}
    run('get_flops', cfg, '--shape', 64, 64, *swapped, 'model.backbone.in_channels=3')
    counted[3] = re.search(r'\((\d[\d,]+)\)', capsys.readouterr().out)[1]
    three, four = (int(counted[x].replace(',', '')) for x in (3, 4))
    assert four - three == 32 * 7 * 7  # one channel more of the first convolution
    run('export_onnx', cfg, weights, tmp_path / 'm.onnx', '--shape', 64, 64, *swapped)
    session = onnxruntime.InferenceSession(tmp_path / 'm.onnx')
    image = np.zeros((1, 4, 64, 64), np.float32)
    assert session.run(['logits'], {'image': image})[0].shape == (1, 3, 64, 64)
