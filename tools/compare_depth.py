"""A picture of what models of depth predict, and of their errors at depth discontinuities.

Each row is a picture of the test set: itself, the truth, each model's prediction in the truth's
scale, and each model's relative error at the pixels that count and are near a discontinuity, with
its mean there. The pictures are spread evenly over the set, unless --pictures names others.
"""

import warnings
from pathlib import Path

warnings.filterwarnings('ignore', message='pkg_resources is deprecated')

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mmengine.registry import METRICS

from fade_mm import run
from fade_mm.hosts.base import in_scope_of
from fade_mm.hosts.configs import metrics_of, type_name
from fade_mm.metrics import DepthMetric
from fade_mm.run.side_by_side import SideBySideParser, chosen, models_of, predicted

LARGEST_ERROR = 0.5  # of the scale of relative errors


def metric_of(cfg) -> DepthMetric:
    """The metric of a config that knows which pixels count."""
    for node in metrics_of(cfg):
        if type_name(node) == 'DepthMetric':
            with in_scope_of(cfg):
                metric = METRICS.build(node)
            if isinstance(metric, DepthMetric):
                return metric
    raise run.SetupError('the config has no fade_mm.DepthMetric in test_evaluator')


def maps_of(result) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and true depth, in metres."""
    return tuple(
        result.get(name).data.squeeze(0).double().cpu().numpy()
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
    args = SideBySideParser(__doc__).parse_args()
    names, rows = [], []
    for name, cfg, model, dataset in models_of(args, metric_of):
        metric = metric_of(cfg)
        paths = [Path(dataset.get_data_info(i)['img_path']) for i in range(len(dataset))]
        names.append(name)
        stems = [path.stem for path in paths]
        for place, index in enumerate(chosen(stems, args.pictures, args.rows)):
            pred, truth = maps_of(predicted(model, dataset[index]))
            if place == len(rows):
                image = cv2.imread(str(paths[index]))[..., ::-1]
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
