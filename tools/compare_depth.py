"""A picture of what models of depth predict, and of their errors at depth discontinuities.

Each row is a picture of the test set: itself, the truth, each model's prediction in the truth's
scale, and each model's relative error at the pixels that count and are near a discontinuity, with
its mean there. The pictures are spread evenly over the set, unless --pictures names others.
"""

import argparse
import warnings
from pathlib import Path

warnings.filterwarnings('ignore', message='pkg_resources is deprecated')

import cv2
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mmengine.config import DictAction
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, METRICS
from torch import nn

from fade_mm import run
from fade_mm.hosts.base import in_scope_of
from fade_mm.hosts.configs import metrics_of, type_name
from fade_mm.metrics import DepthMetric
from fade_mm.run.naming import upsampler_of

LARGEST_ERROR = 0.5  # of the scale of relative errors


def parse_args() -> argparse.Namespace:
    parser = run.ToolParser(
        __doc__,
        'work_dirs/A/A.py work_dirs/A/iter_1200.pth work_dirs/B/B.py work_dirs/B/iter_1200.pth '
        '--out depth.png',
    )
    parser.add_argument(
        'models', nargs='+', metavar='CONFIG CHECKPOINT', help='one pair for each model'
    )
    parser.add_argument('--out', type=Path, required=True, help='the .png file to write')
    parser.add_argument(
        '--pictures', nargs='+', metavar='NAME', help="names of the test set's pictures"
    )
    parser.add_argument('--rows', type=int, default=3, help='how many, without names (default: 3)')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    args = parser.parse_args()
    if len(args.models) % 2:
        parser.error('each model is a config and a checkpoint')
    if args.out.suffix != '.png' or args.rows < 1:
        parser.error('--out must end in .png, and --rows be positive')
    return args


def metric_of(cfg) -> DepthMetric:
    """The metric of a config that knows which pixels count."""
    for node in metrics_of(cfg):
        if type_name(node) == 'DepthMetric':
            with in_scope_of(cfg):
                metric = METRICS.build(node)
            if isinstance(metric, DepthMetric):
                return metric
    raise run.SetupError('the config has no fade_mm.DepthMetric in test_evaluator')


def chosen(dataset, names: list[str] | None, rows: int) -> list[int]:
    """Which pictures of a data set to show."""
    if not names:
        count = min(rows, len(dataset))
        return [int((i + 0.5) * len(dataset) / count) for i in range(count)]
    stems = [Path(dataset.get_data_info(i)['img_path']).stem for i in range(len(dataset))]
    missing = [name for name in names if name not in stems]
    if missing:
        raise run.SetupError(
            f'the test set has no picture {", ".join(missing)}, but {stems[0]}, ...'
        )
    return [stems.index(name) for name in names]


def predict(model: nn.Module, dataset, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and true depth of a picture, in metres."""
    with in_scope_of(model.cfg), torch.no_grad():
        sample = model.test_step(pseudo_collate([dataset[index]]))[0]
    return tuple(
        sample.get(name).data.squeeze(0).double().cpu().numpy()
        for name in ('pred_depth_map', 'gt_depth_map')
    )


def draw(names: list[str], rows: list[dict], path: Path) -> None:
    """Write the picture.

    Args:
        names: The models'.
        rows: Of each picture ``image`` (RGB), ``truth``, ``known``, and for each model ``preds``,
            ``errors`` (not a number where none is shown) and ``means``.
        path: Where.
    """
    h, w = rows[0]['image'].shape[:2]
    columns = 2 + 2 * len(names)
    figure = Figure((2.4 * columns + 1, (2.4 * h / w + 0.3) * len(rows)), layout='constrained')
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        for axis in line:
            axis.axis('off')
        scale = dict(vmin=row['truth'][row['known']].min(), vmax=row['truth'][row['known']].max())
        line[0].imshow(row['image'])
        shown = [np.where(row['known'], row['truth'], np.nan), *row['preds']]
        for axis, depth, title in zip(line[1:], shown, ['truth', *names], strict=False):
            drawn = axis.imshow(depth, cmap='viridis', **scale)
            axis.set_title(title, fontsize=8)
        figure.colorbar(drawn, ax=list(line[1 : 2 + len(names)]), aspect=20).set_label('m')
        errors = line[2 + len(names) :]
        for axis, error, mean, name in zip(errors, row['errors'], row['means'], names, strict=True):
            drawn = axis.imshow(error, cmap='inferno', vmin=0, vmax=LARGEST_ERROR)
            axis.set_title(f'{name}: error at edges, mean {mean:.3f}', fontsize=8)
        figure.colorbar(drawn, ax=list(errors), aspect=20).set_label('relative')
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    cv2.imwrite(str(path), np.asarray(canvas.buffer_rgba())[..., 2::-1])


def main() -> None:
    args = parse_args()
    pairs = list(zip(args.models[::2], args.models[1::2], strict=True))
    run.check_weights([checkpoint for _, checkpoint in pairs])
    names, rows = [], []
    for config, checkpoint in pairs:
        cfg = run.load_config(config, args.cfg_options)
        metric = metric_of(cfg)
        model = run.init_model(cfg, checkpoint)
        with in_scope_of(cfg):
            dataset = DATASETS.build(cfg.test_dataloader.dataset)
        names.append(upsampler_of(cfg) or Path(config).stem)
        for place, index in enumerate(chosen(dataset, args.pictures, args.rows)):
            pred, truth = predict(model, dataset, index)
            if place == len(rows):
                image = cv2.imread(dataset.get_data_info(index)['img_path'])[..., ::-1]
                rows.append(
                    dict(image=image, truth=truth, known=truth > 0, preds=[], errors=[], means=[])
                )
            row = rows[place]
            _, near = metric.masks(row['truth'])
            error = np.where(near, np.abs(pred - row['truth']) / np.maximum(row['truth'], 1e-6), 0)
            row['preds'].append(pred)
            row['errors'].append(np.where(near, error, np.nan))
            row['means'].append(error[near].mean() if near.any() else float('nan'))
    draw(names, rows, args.out)
    print(f'written: {args.out}')


if __name__ == '__main__':
    run.run_tool(main)
