"""The pages for PyTorch's users: their code runs where there is torch and nothing else."""

import re
from pathlib import Path

import pytest

from tests.test_torch_alone import alone

DOCS = Path(__file__).parents[1] / 'docs'


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
