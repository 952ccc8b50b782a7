"""Test a model of mmdetection or mmsegmentation, with any upsampler."""

import argparse
import os
import warnings

warnings.filterwarnings('ignore', message='pkg_resources is deprecated')

from mmengine.config import Config, DictAction

from fade_mm import engine
from fade_mm.memory import keep_freed_memory


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file, or mmdet::PATH or mmseg::PATH')
    parser.add_argument('checkpoint', help='checkpoint to test')
    parser.add_argument('--work-dir', help='where the metrics go')
    parser.add_argument(
        '--out', help='keep the predictions: a .pkl file (detection) or a folder (segmentation)'
    )
    parser.add_argument('--show-dir', help='folder for pictures of the predictions')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override values of the config, e.g. test_dataloader.dataset.data_root=DIR',
    )
    parser.add_argument(
        '--return-memory', action='store_true', help='give freed memory back to the system at once'
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if not args.return_memory and keep_freed_memory():
        print('Freed memory stays with this process; --return-memory gives it back.')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    engine.check_weights([args.checkpoint])
    cfg = engine.load_config(args.config, args.cfg_options, args.work_dir, args.launcher)
    engine.check_loops(cfg, 'test')
    task = Segmentation(cfg) if cfg.get('default_scope') == 'mmseg' else Detection(cfg)
    if args.out:
        task.keep_predictions(args.out)
    if args.show_dir:
        task.draw(args.show_dir)
    if args.tta:
        task.augment()
    hook = dict(type='fade_mm.ResultHook', config=args.config, options=args.cfg_options)
    engine.add_hook(cfg, **hook)
    engine.evaluate(cfg, args.checkpoint)
    for place in filter(None, (args.out, args.show_dir)):
        print(f'written: {place}')


class Task:
    """What the two libraries' configs do differently when testing."""

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg
        evaluator = cfg.test_evaluator
        if isinstance(evaluator, dict) and 'metrics' in evaluator:  # with or without its type
            evaluator.metrics = _as_list(evaluator.metrics)
        else:
            cfg.test_evaluator = _as_list(evaluator)

    @property
    def metrics(self) -> list:
        """The metrics of the test, to be changed in place."""
        evaluator = self.cfg.test_evaluator
        return evaluator.metrics if isinstance(evaluator, dict) else evaluator

    def draw(self, folder: str) -> None:
        """Write pictures of the predictions."""
        hook = (self.cfg.get('default_hooks') or {}).get('visualization')
        if hook is None:
            raise engine.SetupError('--show-dir needs default_hooks.visualization in the config')
        if not self.cfg.get('visualizer'):
            raise engine.SetupError('--show-dir needs a visualizer in the config')
        hook.draw = True

    def augment(self) -> None:
        """Merge the predictions of augmented images."""
        for dataset in self.datasets():
            dataset.pipeline = self.cfg.tta_pipeline
        self.cfg.model = dict(self.cfg.tta_model, module=self.cfg.model)

    def datasets(self) -> list[dict]:
        """The test sets inside of any wrappers, which have pipelines."""
        found = _leaves(self.cfg.test_dataloader.dataset)
        if not all(dataset.get('pipeline') for dataset in found):
            raise engine.SetupError('--tta needs a pipeline in test_dataloader.dataset')
        return found


def _as_list(value) -> list:
    return list(value) if isinstance(value, list | tuple) else [value]


def _leaves(dataset: dict) -> list[dict]:
    inner = dataset.get('datasets') or [dataset.get('dataset')]
    return [dataset] if inner == [None] else [leaf for x in inner for leaf in _leaves(x)]


class Segmentation(Task):
    """mmsegmentation."""

    def keep_predictions(self, folder: str) -> None:
        """Write label maps as PNG files."""
        if os.path.isfile(folder) or os.path.splitext(folder)[1]:
            raise engine.SetupError(f'--out takes a folder for segmentation, got {folder}')
        writers = [x for x in self.metrics if engine.type_name(x) == 'IoUMetric']
        if not writers:
            raise engine.SetupError('--out needs an IoUMetric in test_evaluator')
        writers[0].output_dir = folder

    def draw(self, folder: str) -> None:
        super().draw(folder)
        self.cfg.default_hooks.visualization.interval = 1
        self.cfg.visualizer.save_dir = folder

    def augment(self) -> None:
        if not self.cfg.get('tta_pipeline') or not self.cfg.get('tta_model'):
            raise engine.SetupError('--tta needs tta_model and tta_pipeline in the config')
        super().augment()


class Detection(Task):
    """mmdetection."""

    def keep_predictions(self, path: str) -> None:
        """Write predictions and labels into one pickle file."""
        if not path.endswith(('.pkl', '.pickle')):
            raise engine.SetupError(f'--out takes a .pkl file for detection, got {path}')
        self.metrics.append(dict(type='mmdet.DumpDetResults', out_file_path=path))

    def draw(self, folder: str) -> None:
        super().draw(folder)
        self.cfg.default_hooks.visualization.test_out_dir = os.path.abspath(folder)

    def augment(self) -> None:
        if 'mask_head' in self.cfg.model.get('roi_head', {}) or 'mask_head' in self.cfg.model:
            raise engine.SetupError(
                '--tta merges boxes only, and this model predicts masks; leave it out'
            )
        nms = dict(type='nms', iou_threshold=0.5)
        self.cfg.setdefault(  # mmdetection keeps this model in mmengine's own registry
            'tta_model', dict(type='DetTTAModel', tta_cfg=dict(nms=nms, max_per_img=100))
        )
        if 'tta_pipeline' not in self.cfg:
            flips = [dict(type='mmdet.RandomFlip', prob=prob) for prob in (1.0, 0.0)]
            keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
            pack = dict(type='mmdet.PackDetInputs', meta_keys=(*keys, 'flip', 'flip_direction'))
            self.cfg.tta_pipeline = [
                *self.datasets()[0].pipeline[:-1],
                dict(type='TestTimeAug', transforms=[flips, [pack]]),
            ]
        super().augment()


if __name__ == '__main__':
    engine.run_tool(main)
