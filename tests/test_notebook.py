"""examples/fade.ipynb: its cells run, one after the other."""

import json
import re
import tempfile
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pytest

NOTEBOOK = json.loads((Path(__file__).parents[1] / 'examples/fade.ipynb').read_text())
CELLS = [''.join(x['source']) for x in NOTEBOOK['cells'] if x['cell_type'] == 'code']


@pytest.fixture
def names(tmp_path, monkeypatch):
    """What the cells have defined, with their files in a folder that goes."""
    matplotlib.use('Agg')
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    yield {}
    plt.close('all')


def differ(x):
    """Whether a map has more than one value, by more than rounding."""
    return float(x.max() - x.min()) > 0.1


@pytest.mark.slow
def test_the_cells_run_and_show_what_they_say(names, capsys):
    for number, cell in enumerate(CELLS):
        exec(compile(cell, f'cell {number}', 'exec'), names)
    assert differ(names['views']['gate'])
    assert differ(names['entropy'])
    said = capsys.readouterr().out
    bilinear, fade = (
        int(x.replace(',', '')) for x in re.findall(r'([\d,]+) parameters$', said, re.M)[-2:]
    )
    assert fade > bilinear
    assert 'budget: 60 iterations' in said
    assert len(names['watched']) == 6
