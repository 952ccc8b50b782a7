"""`tools/image_demo.py` on pictures, folders and unreadable files."""

import shutil

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

from fade_mm.run import load_config
from tests.tools import BCCD, CAMVID, SHAPES, config, run


def checkpoint_of(cfg_path, path):
    """Untrained weights of a config's model."""
    cfg = load_config(str(cfg_path))
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    return path


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / 'pictures'
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ('a.jpg', 'b.png'):
        cv2.imwrite(str(folder / name), rng.integers(0, 255, (60, 90, 3), np.uint8))
    (folder / 'notes.txt').write_text('no picture')
    return folder


@pytest.mark.parametrize(
    ('template', 'layers', 'gates'),
    [(CAMVID, 6, 6), (BCCD, 3, 0), (SHAPES, 3, 0)],
    ids=['labels', 'boxes', 'masks'],
)
def test_folder_with_gates(template, layers, gates, pictures, tmp_path):
    cfg = config(template, 'fade')
    weights = checkpoint_of(cfg, tmp_path / 'weights.pth')
    out = tmp_path / 'out'
    run('image_demo', pictures, cfg, weights, '--out-dir', out, '--show-gate')
    written = sorted(path.name for path in out.iterdir())
    assert len(written) == 2 * (2 + layers + gates)  # the drawing and the sheet, too
    assert len([name for name in written if name.endswith('.gate.png')]) == 2 * gates
    for name in written:
        shape = cv2.imread(str(out / name)).shape
        if name.endswith('.upsamplers.png'):  # a column a layer, a row a kind
            assert shape[0] > (2 if gates else 1) * 60
            assert shape[1] > layers * 90
        else:
            assert shape == (60, 90, 3)


def test_an_unreadable_picture_is_named_and_skipped(pictures, tmp_path, capsys):
    (pictures / 'broken.jpg').write_bytes(b'no picture')
    cfg = config(CAMVID, 'bilinear')
    weights = checkpoint_of(cfg, tmp_path / 'weights.pth')
    with pytest.raises(SystemExit) as stop:
        run('image_demo', pictures, cfg, weights, '--out-dir', tmp_path / 'out')
    assert stop.value.code == 1
    assert 'broken.jpg cannot be read as a picture' in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['a.png', 'b.png']


def test_pictures_of_one_stem_do_not_overwrite_each_other(pictures, tmp_path):
    shutil.copy(pictures / 'b.png', pictures / 'a.png')
    cfg = config(CAMVID, 'bilinear')
    weights = checkpoint_of(cfg, tmp_path / 'weights.pth')
    run('image_demo', pictures, cfg, weights, '--out-dir', tmp_path / 'out')
    written = sorted(path.name for path in (tmp_path / 'out').iterdir())
    assert written == ['a.jpg.png', 'a.png.png', 'b.png']


def test_a_checkpoint_of_another_model_stops(pictures, tmp_path):
    weights = checkpoint_of(config(CAMVID, 'bilinear'), tmp_path / 'weights.pth')
    with pytest.raises(SystemExit, match='does not fit the model'):
        run('image_demo', pictures, config(CAMVID, 'fade'), weights, '--out-dir', tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_an_empty_or_missing_folder_is_an_error(pictures, tmp_path):
    for path in pictures.iterdir():
        path.unlink()
    weights = shutil.copy(__file__, tmp_path / 'weights.pth')
    for place, message in ((pictures, 'are no pictures in'), ('nowhere', 'is no picture nowhere,')):
        with pytest.raises(SystemExit, match=f'there {message}'):
            run('image_demo', place, config(CAMVID, 'fade'), weights, '--out-dir', tmp_path / 'o')


def test_gates_of_sliding_windows_are_refused(pictures, tmp_path):
    cfg = config(CAMVID, 'fade')
    weights = checkpoint_of(cfg, tmp_path / 'weights.pth')
    arguments = ['image_demo', pictures, cfg, weights, '--out-dir', tmp_path / 'out']
    arguments += ['--cfg-options', 'model.test_cfg.mode=slide', 'model.test_cfg.crop_size=(32,32)']
    arguments += ['model.test_cfg.stride=(32,32)']
    with pytest.raises(SystemExit, match=r'--show-gate .* set .*model\.test_cfg\.mode=whole'):
        run(*arguments, '--show-gate')


def test_entropies_of_a_padded_picture_are_where_they_were_made(tmp_path):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (240, 320, 3), np.uint8)  # 256 rows with the model's padding
    cv2.imwrite(str(tmp_path / 'a.png'), picture)
    cfg = config(BCCD, 'fade')
    weights = checkpoint_of(cfg, tmp_path / 'weights.pth')
    run('image_demo', tmp_path / 'a.png', cfg, weights, '--out-dir', tmp_path / 'o', '--show-gate')
    drawn = cv2.imread(str(tmp_path / 'o/a.neck.upsamplers.0.entropy.png')).astype(float)
    colours = np.round((drawn - 0.4 * picture) / 0.6)
    edges = (np.abs(np.diff(colours, axis=0)).max((1, 2)) > 8).nonzero()[0] + 1
    assert len(edges)
    assert not (edges % 4).any()  # the cells of the finest map are 4 pixels high
