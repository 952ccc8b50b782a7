"""Pictures of predictions: their names, and what they need."""

from types import SimpleNamespace

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.datasets import BaseSegDataset

from fade_mm.errors import SetupError
from fade_mm.hosts.base import Host
from fade_mm.run.drawn_predictions import DrawingHook, distinct_names


def test_pictures_of_one_name_get_names_of_their_own(tmp_path):
    paths = [tmp_path / x for x in ('a/1.png', 'b/1.png', 'b/1.jpg', 'b/2.png')]
    names = distinct_names([*paths, paths[0]])
    assert names == dict(zip(paths, ['a_1.png', 'b_1.png', 'b_1.jpg', '2'], strict=True))
    assert distinct_names([]) == {}


@pytest.mark.parametrize('augmented', [False, True])
def test_samples_without_paths_are_told_before_a_test(augmented, segmentation_root, tmp_path):
    pack = dict(type='PackSegInputs', meta_keys=('ori_shape',))
    steps = [dict(type='TestTimeAug', transforms=[[pack]]) if augmented else pack]
    with DefaultScope.overwrite_default_scope('mmseg'):
        dataset = BaseSegDataset(
            data_root=str(segmentation_root),
            data_prefix=dict(img_path='images/validation'),
            pipeline=[dict(type='LoadImageFromFile'), *steps],
        )
    runner = SimpleNamespace(test_dataloader=SimpleNamespace(dataset=dataset))
    hook = DrawingHook(str(tmp_path / 'new'))
    with pytest.raises(SetupError, match=r"--show-dir needs 'img_path' among the meta_keys"):
        hook.before_test(runner)
    assert not (tmp_path / 'new').exists()


def test_a_folder_that_holds_pictures_is_kept(tmp_path):
    DrawingHook(str(tmp_path))
    (tmp_path / 'a.png').touch()
    for path in (tmp_path, tmp_path / 'a.png'):
        with pytest.raises(SetupError, match='is there already; give another folder'):
            DrawingHook(str(path))


@pytest.mark.parametrize(
    ('scope', 'kind'),
    [
        ('mmdet', 'DetLocalVisualizer'),
        ('mmseg', 'SegLocalVisualizer'),
        ('mmengine', 'fade_mm.MattingVisualizer'),
    ],
)
def test_each_drawing_has_a_visualizer_of_its_own(scope, kind, recwarn):
    backends = [dict(type='LocalVisBackend')]
    configs = (
        Config(dict(default_scope=scope, visualizer=dict(type=kind, vis_backends=backends))),
        Config(dict(visualizer=dict(type=kind, _scope_=scope))),  # as where a config is inherited
    )
    one, other = (Host().visualizer(cfg, {}) for cfg in configs)
    assert one is not other
    assert type(one).__name__ == kind.rpartition('.')[2]
    assert not [x for x in recwarn if 'has been created' in str(x.message)]
