"""The pages for PyTorch's users: their code runs where there is torch and nothing else."""

import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
import torch

from tests.test_torch_alone import alone

DOCS = Path(__file__).parents[1] / 'docs'
PAGE = DOCS / 'pytorch_unet.md'


def code(page):
    """The Python of a page, as one program."""
    return '\n'.join(re.findall(r'```python\n(.*?)```', (DOCS / page).read_text(), re.S))


def test_the_fpn_does_what_its_page_says():
    program = code('pytorch_fpn.md')
    printed = re.findall(r'^print\(.*\)  # (.*?)(?::.*)?$', program, re.M)
    assert len(printed) == 2
    assert alone('-c', program).splitlines() == printed


def test_the_unet_learns():
    first, last = map(float, alone('-c', code('pytorch_unet.md')).split(' -> '))
    assert last < first / 2


@pytest.mark.parametrize(
    ('page', 'name', 'most'), [('pytorch_fpn.md', 'FPN', 10), ('pytorch_unet.md', 'UNet', 30)]
)
def test_they_are_as_short_as_they_say(page, name, most):
    (model,) = re.findall(rf'^class {name}.*?(?=^\S|\Z)', code(page), re.M | re.S)
    assert len([line for line in model.splitlines() if line]) <= most


@pytest.mark.slow
def test_the_unet_becomes_onnx_as_its_page_shows(tmp_path):
    onnxruntime = pytest.importorskip('onnxruntime')
    (export,) = re.findall(r'^  ```py\n(.*?)^  ```', PAGE.read_text(), re.M | re.S)
    shapes = 'torch.save([images, model(images)], "pair.pth")\n'
    program = '\n'.join([code(PAGE.name), dedent(export), shapes])
    subprocess.run([sys.executable, '-W', 'ignore', '-c', program], cwd=tmp_path, check=True)
    images, expected = torch.load(tmp_path / 'pair.pth')
    session = onnxruntime.InferenceSession(tmp_path / 'unet.onnx')
    (found,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-4, rtol=1e-4)
