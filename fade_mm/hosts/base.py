"""What fade_mm asks about the models of a task of a library, and which library a model is of."""

import copy
import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.registry import DATASETS, MODELS, VISUALIZERS, DefaultScope, Registry
from mmengine.structures import BaseDataElement
from mmengine.visualization import Visualizer
from torch import Tensor, nn

from fade_mm.errors import SetupError, naming_build_errors
from fade_mm.openmmlab import check_python, command
from fade_mm.registry import HOSTS
from fade_mm.registry import MODELS as OURS
from fade_mm.upsamplers import named_upsamplers
from fade_mm.upsamplers.build import find_upsampler

from .configs import check_pickle, dicts, metrics_of, test_sets, type_name
from .traced import Exported, SinglePass

check_python()

_MODES = ('nearest', 'nearest-exact', 'bilinear', 'bicubic', 'area')
"""Of PyTorch's interpolation, which hosts' own ``upsample_cfg`` take as ``mode``."""


class Host:
    """The answers for any model of mmengine's; a library's own are in a subclass.

    A subclass is registered in `fade_mm.registry.HOSTS`, by a module of a config's
    ``custom_imports``, say. `host_of` finds it by the classes that its models derive from.

    Attributes:
        library: The package that its classes are imported from.
        packages: What pip installs for it.
        models: Full names of the classes that all of its models derive from.
        stand_ins: Classes of ours that stand in for the library's, by name, and their modules in
            the host's folder.
        needs: Further libraries that one of them needs, by its name.
        task: What its models do, one of `fade_mm.run.results.TASKS`, or ``None``.
        names: What tables call its models, by the class of the model or its head.
        second: What its models need beside a picture, e.g. ``'trimap'``, or ``None``.
    """

    library = 'mmengine'
    packages = 'mmengine'
    models: tuple[str, ...] = ()
    stand_ins: Mapping[str, str] = {}
    needs: Mapping[str, tuple[str, ...]] = {}
    task: str | None = None
    names: Mapping[str, str] = {}
    second: str | None = None

    # Configs

    def check_model(self, cfg: dict) -> None:
        """Raise where a model is asked for an upsampler that there is not, or not there.

        Args:
            cfg: The whole config.

        Raises:
            SetupError: with the name of the class of ours that knows it, or the nearest one.
        """
        for node in dicts(cfg['model']):
            asked = node.get('upsample_cfg')
            if not isinstance(asked, dict):
                continue
            cls = resolve(node.get('type'), cfg.get('default_scope'))
            stand_in = stand_in_of(cls)
            if isinstance(cls, type) and stand_in is None and not _takes_upsamplers(cls):
                ours = ', '.join(sorted(f'fade_mm.{x.__name__}' for x in _stand_ins()))
                raise SetupError(
                    f'{node["type"]} takes no upsample_cfg; these do: {ours}, and what of yours '
                    'calls build_upsampler'
                )
            if stand_in is None:
                continue
            key = 'type' if 'type' in asked else 'mode'
            name = asked.get(key)
            if key == 'mode':
                is_known = name in (None, *_MODES)
            else:
                is_known = stand_in is cls or name in stand_in.stock_types
            if not is_known:
                whose = '' if stand_in is cls else ' of the host library'
                raise SetupError(
                    f"{node['type']}{whose} knows no upsample_cfg of {key} '{name}'; "
                    f"write type='fade_mm.{stand_in.__name__}', upsample_cfg=dict(type='{name}')"
                )
            if stand_in is cls and key == 'type':
                with in_scope_of(cfg), naming_build_errors():
                    find_upsampler(name)

    def add_metrics(self, cfg: dict) -> None:
        """Add the metrics that a config asks for by an option of its own, ``boundary_ap``.

        Args:
            cfg: The whole config, which is changed.

        Raises:
            SetupError: they cannot measure this model.
        """
        if cfg.get('boundary_ap'):
            raise SetupError('boundary_ap is for instance masks, and the model predicts none')

    def check_run(self, cfg: dict) -> None:
        """Raise where training or testing a config needs what is not installed."""

    def task_of(self, cfg: dict) -> str | None:
        """What the metrics of a config are metrics of; `task`, by default."""
        return self.task

    def name_of(self, model: dict) -> str | None:
        """What tables call a model with its backbone, e.g. ``'SegFormer MiT-B0'``, or ``None``.

        Args:
            model: The config of the model.
        """
        kinds = [type_name(model), type_name(model.get('decode_head'))]
        name = next((self.names[kind] for kind in kinds if kind in self.names), None)
        backbone = self.backbone_of(model.get('backbone') or {})
        return f'{name} {backbone}' if name and backbone else None

    def backbone_of(self, backbone: dict) -> str | None:
        """What tables call a backbone, e.g. ``'R50'``."""
        kind = type_name(backbone)
        if kind == 'MobileNetV2':
            return kind if backbone.get('widen_factor', 1) == 1 else None
        is_resnet = kind.startswith('ResNet') and 'depth' in backbone
        return f'R{backbone["depth"]}' if is_resnet else None

    # Data

    def class_heads(self, model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        """The parts of a model, with their names, whose ``num_classes`` is that of its data."""
        return iter(())

    def labels_are_classes(self, dataset) -> bool:
        """Whether the labels of a data set are indices of its ``metainfo``'s classes."""
        return False

    def noting_names(self, place: str) -> AbstractContextManager:
        """Data sets that are built within keep the names of classes that their files have.

        Args:
            place: The key of their data loader, for messages.
        """
        return nullcontext()

    def check_dataset(self, dataset, place: str) -> None:
        """Raise where the classes of a data set are not those of its files.

        Args:
            dataset: The data set.
            place: The key of its data loader, for the message.
        """

    def watch(self, dataset) -> None:
        """Let a data set's transforms look at what they read, each file once."""

    def check_sample(self, sample: dict, result: dict, dataset) -> None:
        """Raise where what a pipeline has made does not fit its files or classes.

        Args:
            sample: What the pipeline was given.
            result: What it has made of that.
            dataset: The data set that it is of.
        """

    # Testing

    def keep_predictions(self, cfg: dict, path: str) -> None:
        """Let a test write its predictions; into one pickle file, by default.

        Args:
            cfg: The config, which is changed.
            path: What the user gave.

        Raises:
            SetupError: predictions cannot be written there.
        """
        check_pickle(path)
        metrics_of(cfg).append(dict(type='DumpResults', out_file_path=path))

    def as_picture(self, cfg: dict, prediction: BaseDataElement) -> np.ndarray:
        """A prediction as the picture that `keep_predictions` has written, if it is one.

        Args:
            cfg: The whole config.
            prediction: A data sample.
        """
        raise SetupError(f'what a {type(prediction).__name__} holds is no picture')

    def draw(self, cfg: dict, folder: str) -> None:
        """Let a test draw its predictions into a folder, with the config's visualizer."""
        if not cfg.get('visualizer'):
            raise SetupError('--show-dir needs a visualizer in the config')
        drawing = dict(type='fade_mm.DrawingHook', folder=folder)
        cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), drawing]

    def augment(self, cfg: dict) -> None:
        """Let a test merge the predictions of augmented images, as ``tta_model`` says."""
        if not cfg.get('tta_pipeline') or not cfg.get('tta_model'):
            raise SetupError('--tta needs tta_model and tta_pipeline in the config')
        for dataset in test_sets(cfg):
            dataset.pipeline = cfg.tta_pipeline
        cfg.model = dict(cfg.tta_model, module=cfg.model)

    # Pictures

    def check_second(self, path: Path, second: Path) -> None:
        """Raise where a file is not what a picture needs beside it; see `second`.

        Args:
            path: The picture.
            second: The file.
        """

    def predict(self, model: nn.Module, path: Path, second: Path | None = None) -> BaseDataElement:
        """The prediction for a picture.

        Args:
            model: From `fade_mm.run.init_model`.
            path: The picture.
            second: What its host needs beside it; see `second`. Default: ``None``.
        """
        pipeline = [
            step
            for step in model.cfg.test_dataloader.dataset.pipeline
            if 'Annotation' not in type_name(step)
        ]
        with in_scope_of(model.cfg), torch.no_grad():
            sample = Compose(pipeline)(dict(img_path=str(path), img_id=0))
            return model.test_step(pseudo_collate([sample]))[0]

    def true_masks(self, dataset, index: int) -> tuple[np.ndarray, ...]:
        """What a data set of instances has for a picture, whatever its pipeline makes of it.

        Returns:
            The picture ``(h, w, 3)``, BGR, uint8; masks ``(N, h, w)``, uint8; their classes; and
            whether they are of crowds.

        Raises:
            SetupError: it has no masks.
        """
        raise SetupError('no masks are known of such data sets')

    def drawn(self, model: nn.Module, picture: np.ndarray, prediction) -> dict[str, np.ndarray]:
        """What there is to see of a prediction: pictures, by the ending of their names.

        Pictures are grey, BGR, or BGR with transparency.

        Args:
            model: From `fade_mm.run.init_model`.
            picture: What was predicted for ``(h, w, 3)``, BGR, uint8.
            prediction: From `predict`.
        """
        visualizer = self.visualizer(model.cfg, model.dataset_meta)
        visualizer.add_datasample('', picture[..., ::-1], prediction, draw_gt=False)
        return {'': visualizer.get_image()[..., ::-1]}

    def visualizer(self, cfg: dict, dataset_meta: dict) -> Visualizer:
        """A config's visualizer, that knows names and colours of classes, and saves nothing."""
        options = dict(cfg.visualizer, name='drawn', vis_backends=None)
        scope = options.pop('_scope_', cfg.get('default_scope'))
        cls = find(VISUALIZERS, options.pop('type'), scope)
        visualizer = cls(**options)  # build() would give back the first one of that name
        visualizer.dataset_meta = dataset_meta
        return visualizer

    def dataset_meta(self, cfg: dict, checkpoint: dict) -> dict:
        """Names and colours of classes: those of a checkpoint, else of a config's test set."""
        meta = (checkpoint.get('meta') or {}).get('dataset_meta')
        if meta:
            return {key.lower(): value for key, value in meta.items()}
        with in_scope_of(cfg):
            dataset = copy.deepcopy(test_sets(cfg)[0])
            return DATASETS.build(dict(dataset, lazy_init=True)).metainfo

    def content_shape(self, metainfo: dict, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of what is not padding in a model's input.

        Args:
            metainfo: The data sample's. Its ``img_shape`` may hold a pipeline's padding, so that
                the original shape and scale count, too.
            size: Height and width of the input.
        """
        shapes = [size, metainfo.get('img_shape', size)]
        if 'ori_shape' in metainfo:
            scale_w, scale_h = metainfo.get('scale_factor', (1.0, 1.0))[:2]
            h, w = metainfo['ori_shape'][:2]
            shapes.append((round(h * scale_h), round(w * scale_w)))
        return tuple(int(min(shape[i] for shape in shapes)) for i in (0, 1))

    def picture_of(self, sample: dict) -> np.ndarray | None:
        """What a pipeline made of a picture, ``(h, w, 3)``, without padding, as uint8."""
        inputs = sample.get('inputs') if isinstance(sample, dict) else None
        if not isinstance(inputs, Tensor) or inputs.dim() != 3:
            return None
        metainfo = getattr(sample.get('data_samples'), 'metainfo', {})
        h, w = self.content_shape(metainfo, inputs.shape[1:])
        picture = inputs[:3] if len(inputs) >= 3 else inputs[:1].expand(3, -1, -1)
        picture = picture[:, :h, :w].permute(1, 2, 0).cpu().numpy()
        if picture.dtype != np.uint8:
            low, high = picture.min(), picture.max()
            picture = (255.0 * (picture - low) / max(high - low, 1e-12)).astype(np.uint8)
        return np.ascontiguousarray(picture)

    def slides(self, model: nn.Module) -> bool:
        """Whether a model predicts window by window, so that its features show the last one."""
        return (getattr(model, 'test_cfg', None) or {}).get('mode') == 'slide'

    def channels(self, model: nn.Module) -> int:
        """How many channels a model's pictures have: those of its first convolution."""
        convolutions = (m for m in model.modules() if isinstance(m, nn.Conv2d))
        return next((m.in_channels for m in convolutions), 3)

    # Counting and export

    def prune(self, model: nn.Module) -> None:
        """Take what only trains out of a model."""

    def input_size(self, cfg: dict) -> tuple[int, int]:
        """Height and width that a model's multiply-adds are counted for, by default."""
        size = (cfg['model'].get('data_preprocessor') or {}).get('size')
        if not size:
            raise SetupError('the config has no model.data_preprocessor.size; give --shape H W')
        return tuple(size)

    def single_pass(
        self, model: nn.Module, shape: tuple[int, int], mode: str = 'tensor'
    ) -> SinglePass:
        """A model as it is counted.

        Args:
            model: The model, which stays as it is.
            shape: Height and width of the image.
            mode: ``'tensor'``: without post-processing; ``'predict'``: with it.
                Default: ``'tensor'``.
        """
        return SinglePass(model, shape, mode)

    def exported(self, model: nn.Module) -> Exported:
        """A model as an exported file has it.

        Raises:
            SetupError: it cannot be exported.
        """
        raise SetupError(
            f'a {type(model).__name__} cannot be exported as a whole; segmentation, depth and '
            'matting models can, and a detector without its post-processing as docs/questions.md '
            'shows under "Exporting a YOLO"'
        )


class StandIn:
    """What classes that stand in for a host library's have in common; put it before the host class.

    Attributes:
        stock_upsampler: How the host class upsamples by itself, as tables call it.
        stock_types: Types of ``upsample_cfg`` that the host class knows.
        upsamplers: The upsamplers, or ``None`` where the host's own interpolation is asked for.
    """

    stock_upsampler: str
    stock_types: tuple[str, ...] = ()
    upsamplers: nn.ModuleList | None


def start_upsamplers(module: nn.Module) -> None:
    """Give every upsampler in a module its own start, whatever a host has made of it before."""
    for _, up in named_upsamplers(module):
        up.init_weights()


def host_of(model: nn.Module | Mapping) -> Host:
    """The host that answers for a model: the one whose classes it derives from most closely.

    Args:
        model: A whole config, or a model; either may be wrapped (test-time augmentation, data
            parallel).

    Raises:
        SetupError: the class of the config's model is not to be found.
    """
    cls = type(unwrapped(model)) if isinstance(model, nn.Module) else _class_of_model(model)
    for ancestor in cls.__mro__:
        for host in HOSTS.module_dict.values():
            if f'{ancestor.__module__}.{ancestor.__qualname__}' in host.models:
                return host()
    return Host()


def unwrapped(model: nn.Module) -> nn.Module:
    """A model without what wraps it."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def _class_of_model(cfg: Mapping) -> type:
    node, scope = cfg['model'], cfg.get('default_scope')
    while isinstance(node.get('module'), dict):
        node = node['module']
    kind = node.get('type')
    named = f'{scope}.{kind}' if scope and '.' not in str(kind) else str(kind)
    try:
        cls = resolve(kind, scope)
    except (ImportError, AssertionError) as error:  # a library is not all there
        raise _missing(named, str(error)) from error
    if not isinstance(cls, type):
        raise _missing(named, 'it is not registered')
    return cls


def _missing(named: str, reason: str) -> SetupError:
    library = named.partition('.')[0]
    packages = {host.library: host.packages for host in HOSTS.module_dict.values()}
    advice = 'check its name, and custom_imports'
    if library in packages and (not find_spec(library) or reason != 'it is not registered'):
        advice = f'run: {command(packages[library])}'
    return SetupError(f'the model cannot be built: there is no {named} ({reason}); {advice}')


def resolve(kind: object, scope: str | None = None) -> object:
    """The class that a config's ``type`` stands for, ``None`` where it is not registered."""
    return find(MODELS, kind, scope)


def find(registry: Registry, kind: object, scope: str | None) -> object:
    """What a name stands for in a registry of mmengine's, in a config's default scope."""
    if not isinstance(kind, str):
        return kind
    with DefaultScope.overwrite_default_scope(scope), registry.switch_scope_and_registry(None) as x:
        return x.get(kind)


def in_scope_of(cfg: Mapping) -> AbstractContextManager:
    """Within, names are found as in a config."""
    return DefaultScope.overwrite_default_scope(cfg.get('default_scope'))


def stand_in_of(cls: object) -> type[StandIn] | None:
    """The class of ours that stands in for a host library's; for one of ours, itself."""
    return next((ours for ours in _stand_ins() if cls is ours or cls in ours.__bases__), None)


def _stand_ins() -> list[type[StandIn]]:
    OURS.import_from_location()
    classes = (ours for ours in OURS.module_dict.values() if isinstance(ours, type))
    return [ours for ours in classes if issubclass(ours, StandIn)]


def _takes_upsamplers(cls: type) -> bool:
    """Whether a class has an argument ``upsample_cfg``, or any that it passes on."""
    parameters = inspect.signature(cls).parameters.values()
    return any(x.name == 'upsample_cfg' or x.kind is x.VAR_KEYWORD for x in parameters)


def heads_at(model: nn.Module, places: set[str]) -> Iterator[tuple[str, str, nn.Module]]:
    """The parts of a model at any of some places that have ``num_classes``.

    Yields:
        Their names, places (the last part of the name but for numbers, as in ``bbox_head.0``), and
        themselves.
    """
    for name, head in model.named_modules():
        place = re.sub(r'(\.\d+)+$', '', name).rpartition('.')[2]
        if place in places and getattr(head, 'num_classes', None) is not None:
            yield name, place, head
