"""A picture of what models of depth predict, and of their errors at depth discontinuities.

Each row is a picture of the test set: itself, the truth, each model's prediction in the truth's
scale, and each model's relative error at the pixels that count and are near a discontinuity, with
its mean there. The pictures are spread evenly over the set, unless --pictures names others. Of
files given by --images there is no truth: predictions alone are shown, in the first one's scale.
"""

import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

warnings.filterwarnings('ignore', message='pkg_resources is deprecated')

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.registry import METRICS
from torch import nn

from fade_mm import run
from fade_mm.hosts.base import host_of, in_scope_of
from fade_mm.hosts.configs import metrics_of, type_name
from fade_mm.metrics import DepthMetric
from fade_mm.run.side_by_side import (
    ShownPictures,
    SideBySideParser,
    models_of,
    predicted,
    test_set_of,
)

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


def depth_of(result, name: str = 'pred_depth_map') -> np.ndarray:
    """A depth map of a prediction ``(h, w)``, in metres."""
    return result.get(name).data.squeeze(0).double().cpu().numpy()


def of_test_set(cfg: Config, model: nn.Module, pictures: ShownPictures) -> Iterator[tuple]:
    """Of pictures of a test set: path, predicted and true depth, and where errors are shown."""
    metric, dataset = metric_of(cfg), test_set_of(cfg)
    paths = [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
    for index in pictures.of(cfg, paths):
        result = predicted(model, dataset[index])
        truth = depth_of(result, 'gt_depth_map')
        yield paths[index], depth_of(result), truth, metric.masks(truth)[1]


def add_tiles(row: dict, name: str, pred: np.ndarray, truth: np.ndarray, near: np.ndarray) -> None:
    """Add what a model predicted to a row, and its error near discontinuities."""
    if not row['depth']:
        row['depth'].append(('truth', np.where(truth > 0, truth, np.nan)))
    error = np.where(near, np.abs(pred - truth) / np.maximum(truth, 1e-6), np.nan)
    mean = np.nanmean(error) if near.any() else np.nan
    row['depth'].append((name, pred))
    row['errors'].append((f'{name}: error at edges, mean {mean:.3f}', error))


def draw(rows: list[dict], path: Path) -> None:
    """Write the picture.

    Args:
        rows: Of each picture ``image`` (RGB) and, with their titles, maps of ``depth``, the first
            of which gives the scale, and ``errors``, not a number where there is none to see.
        path: Where.
    """
    h, w = rows[0]['image'].shape[:2]
    depths, errors = len(rows[0]['depth']), len(rows[0]['errors'])
    columns = 1 + depths + errors
    figure = Figure((2.4 * columns + 1, (2.4 * h / w + 0.3) * len(rows)), layout='constrained')
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        for axis in line:
            axis.axis('off')
        line[0].imshow(row['image'])
        first = row['depth'][0][1]
        scale = dict(vmin=np.nanmin(first), vmax=np.nanmax(first))
        draw_maps(figure, line[1 : 1 + depths], row['depth'], 'm', cmap='viridis', **scale)
        if errors:
            scale = dict(vmin=0, vmax=LARGEST_ERROR)
            draw_maps(
                figure, line[1 + depths :], row['errors'], 'relative', cmap='inferno', **scale
            )
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    cv2.imwrite(str(path), np.asarray(canvas.buffer_rgba())[..., 2::-1])


def draw_maps(figure: Figure, axes: np.ndarray, maps: list[tuple], unit: str, **scale) -> None:
    """Draw maps side by side, with their titles, in one scale."""
    for axis, (title, values) in zip(axes, maps, strict=True):
        drawn = axis.imshow(values, **scale)
        axis.set_title(title, fontsize=8)
    figure.colorbar(drawn, ax=list(axes), aspect=20).set_label(unit)


def main() -> None:
    parser = SideBySideParser(__doc__)
    parser.add_argument(
        '--images', nargs='+', type=Path, metavar='FILE', help="in place of the test set's pictures"
    )
    args = parser.parse_args()
    if args.images and args.pictures:
        parser.error("--images are files, --pictures the test set's; give one of them")
    for path in args.images or ():
        if cv2.imread(str(path)) is None:
            raise run.SetupError(f'{path} cannot be read as a picture')
    pictures = ShownPictures(args.pictures, args.rows)
    rows = defaultdict(lambda: dict(depth=[], errors=[]))
    for name, cfg, model in models_of(args, metric_of):
        if args.images:
            for path in dict.fromkeys(args.images):
                rows[path]['depth'].append((name, depth_of(host_of(cfg).predict(model, path))))
        else:
            for path, *maps in of_test_set(cfg, model, pictures):
                add_tiles(rows[path], name, *maps)
    for path, row in rows.items():
        row['image'] = cv2.imread(str(path))[..., ::-1]
    draw(list(rows.values()), args.out)
    print(f'written: {args.out}')


if __name__ == '__main__':
    run.run_tool(main)
