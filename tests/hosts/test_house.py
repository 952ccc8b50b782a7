"""What fade_mm knows of a host library lies in that library's folder, and nowhere else."""

import ast
import importlib
import pkgutil
import re

import pytest

import fade_mm
from fade_mm.hosts import Host
from fade_mm.registry import HOSTS
from tests.tools import ROOT

HOSTS.import_from_location()
OLD = {'engine', 'evaluation', 'models', 'visualization'}  # re-exports of names that moved
KNOWN = [host for host in HOSTS.module_dict.values() if host.__module__.startswith('fade_mm.')]
LIBRARIES = {host.library for host in KNOWN} - {Host.library}
FOLDERS = [ROOT.joinpath(*host.__module__.split('.')) for host in KNOWN]
ELSEWHERE = [
    path
    for folder in ('fade_mm', 'tools')
    for path in sorted((ROOT / folder).rglob('*.py'))
    if not any(path.is_relative_to(x) for x in FOLDERS)
    and not OLD.intersection(path.relative_to(ROOT).parts)
]


def words(path):
    """The identifiers in a file, also those in its strings, but for docstrings."""
    tree = ast.parse(path.read_text())
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        texts = [getattr(node, name, None) for name in ('id', 'attr', 'module', 'name', 'arg')]
        if isinstance(node, ast.Constant) and id(node) not in docs:
            texts.append(node.value)
        for text in texts:
            if isinstance(text, str):
                yield from re.findall(r'\w+', text)


def classes_of(library):
    """The names of the classes that a library alone has."""
    registry = importlib.import_module(f'{library}.registry')
    for name in ('MODELS', 'DATASETS', 'TRANSFORMS', 'METRICS', 'HOOKS', 'VISUALIZERS'):
        children = getattr(registry, name)
        children.import_from_location()
        yield from children.module_dict


# Also the names of publications and of torch's or mmengine's classes, or of ours.
OURS = set(HOSTS.module_dict) | {'ResNet', 'FPN', 'SGD', 'Linear', 'DepthMetric', 'MobileNetV2'}


@pytest.mark.parametrize('path', ELSEWHERE, ids=lambda path: str(path.relative_to(ROOT)))
def test_elsewhere_no_library_is_known(path):
    theirs = set(LIBRARIES).union(*map(classes_of, LIBRARIES)) - OURS
    if path.name == 'backbones.py':
        theirs -= {'MixVisionTransformer', 'SwinTransformer'}  # what two libraries' hosts share
    if path == ROOT / 'fade_mm/hosts/__init__.py':
        theirs -= LIBRARIES  # where the folders are listed
    assert not theirs.intersection(words(path))


def test_each_layer_imports_from_those_above_it():
    """DESIGN: registry and errors, operator, upsamplers, hosts, metrics, run, analysis, papers."""
    order = ['ops', 'upsamplers', 'hosts', 'metrics', 'run', 'analysis', 'papers']
    for path in (ROOT / 'fade_mm').rglob('*.py'):
        layer = path.relative_to(ROOT / 'fade_mm').parts[0]
        if layer not in order:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and not node.level and node.module:
                parts = node.module.split('.')
                if parts[0] == 'fade_mm' and len(parts) > 1 and parts[1] in order:
                    sideways = (layer, node.module) == ('upsamplers', 'fade_mm.analysis')
                    assert sideways or order.index(parts[1]) <= order.index(layer), path


def test_all_modules_import():
    for module in pkgutil.walk_packages(fade_mm.__path__, 'fade_mm.'):
        if not module.name.endswith('_kernel'):
            importlib.import_module(module.name)


PUBLIC = {  # what a pure Python config or a script could import from 0.1.0
    'fade_mm.models': 'FPN SegFPN SegformerHead UPerHead PixelDecoder MaskFormerHead '
    'MSDeformAttnPixelDecoder MixVisionTransformer TransformerEncoderPixelDecoder',
    'fade_mm.models.necks.fpn': 'FPN',
    'fade_mm.evaluation': 'BoundaryIoUMetric',
    'fade_mm.evaluation.boundary_iou': 'BoundaryIoUMetric boundary_areas boundary_band',
    'fade_mm.engine': 'CheckedRunner CheckpointFitHook RandomStateHook SetupError add_hook '
    'check_packages check_weights evaluate join_processes load_checkpoint load_config '
    'load_official_segformer pretrained_weights run_tool use_safe_checkpoints',
    'fade_mm.engine.export': 'ExportedSegmentor OLDEST_OPSET check_onnx check_onnx_path '
    'export_onnx replaced_when_done',
    'fade_mm.engine.fit': 'CheckpointFitHook load_checkpoint load_fitting',
    'fade_mm.visualization': 'UpsamplerView UpsamplerVisualizationHook overlay watch_upsamplers',
    'fade_mm.ops.dispatch': 'BACKENDS available_backends backends check_backend select use_backend',
    'fade_mm.ops.decomposition': 'decompose',
}


@pytest.mark.parametrize('place', PUBLIC)
def test_old_places_have_what_they_had(place):
    module = importlib.import_module(place)
    assert 'old' in module.__doc__ or place == 'fade_mm.ops.decomposition'
    assert all(hasattr(module, name) for name in PUBLIC[place].split())
    assert set(PUBLIC[place].split()) <= set(getattr(module, '__all__', PUBLIC[place].split()))
