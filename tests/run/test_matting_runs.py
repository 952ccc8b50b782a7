"""Data of mattes that is not there, or leaves nothing, is told before any time is spent."""

import pytest

from tests.hosts.matting_data import matting_root
from tests.tools import config, run

SMALL = 'configs/matting/a2u-matting_r34-w24_{}_1xb8-1500_matting-96x96.py'


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        ('backgrounds=nowhere', 'there is no folder or list nowhere of photographs'),
        ('holdout=9', 'holdout=9 leaves none of 6 foregrounds'),
        (
            'data_prefix.alpha_path=validation/alpha',
            '4 foregrounds have neither an alpha .* nor tran',
        ),
    ],
)
def test_data_that_is_not_there_is_told_first(wrong, message, tmp_path):
    root = matting_root(tmp_path / 'matting')
    values = {
        'data_root': root,
        'data_prefix.fg_path': 'fg',
        'data_prefix.alpha_path': 'alpha',
        'backgrounds': root / 'bg',
    }
    options = [f'{key}={value}' for key, value in values.items()] + [wrong]
    command = 'train', config(SMALL, 'fade'), '--work-dir', tmp_path / 'w', '--cfg-options'
    with pytest.raises(SystemExit, match=f'error: {message}'):
        run(*command, 'model.base_channels=4', 'train_dataloader.num_workers=0',
            *(f'train_dataloader.dataset.{x}' for x in options))  # fmt: skip
