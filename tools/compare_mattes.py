"""A picture of what matting models predict, at full size.

Each row is a part of a picture of the test set, the one with most unknown pixels: itself, the
truth, each model's alpha with its SAD there (thousands of pixels, unknown ones alone), and the
finest gate of the last model that has gates, from blue (0, the decoder's feature) to yellow (1,
the encoder's). Of composites, a name is that of the foreground. The pictures are spread evenly over
the set, unless --pictures names others.
"""

import warnings

warnings.filterwarnings('ignore', message='pkg_resources is deprecated')

import numpy as np
from mmengine.config import Config

from fade_mm import run
from fade_mm.analysis.views import UpsamplerView, overlay, watch_upsamplers
from fade_mm.hosts import host_of
from fade_mm.hosts.matting.sample import UNKNOWN
from fade_mm.hosts.matting.visualizer import grey
from fade_mm.run.side_by_side import (
    ShownPictures,
    SideBySideParser,
    captioned,
    models_of,
    predicted,
    test_set_of,
    write_rows,
)


def paths_of(dataset) -> list[str]:
    """Where a data set's pictures lie; of composites, the foregrounds."""
    infos = map(dataset.get_data_info, range(len(dataset)))
    return [info.get('fg_path') or info['img_path'] for info in infos]


def check_task(cfg: Config) -> None:
    """Raise where a config is not of a matting model."""
    task = host_of(cfg).task
    if task != 'matting':
        raise run.SetupError(f'{cfg.filename} is of {task}, not of matting')


def busiest(unknown: np.ndarray, size: int) -> tuple[slice, slice]:
    """The square of a picture with the most unknown pixels.

    Args:
        unknown: ``(h, w)``, bool.
        size: Its height and width; less where the picture is smaller.
    """
    h, w = (min(size, length) for length in unknown.shape)
    sums = np.pad(unknown.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    counts = sums[h:, w:] - sums[:-h, w:] - sums[h:, :-w] + sums[:-h, :-w]
    top, left = np.unravel_index(counts.argmax(), counts.shape)
    return slice(top, top + h), slice(left, left + w)


def finest_gate(views: dict[str, UpsamplerView]) -> UpsamplerView | None:
    """What the layer with the largest gate did, if any has one."""
    gated = [view for view in views.values() if view.gate is not None]
    return max(gated, key=lambda view: view.gate.size, default=None)


def main() -> None:
    parser = SideBySideParser(__doc__)
    parser.add_argument(
        '--size', type=int, default=256, help='of the parts, in pixels (default: 256)'
    )
    args = parser.parse_args()
    if args.size < 1:
        parser.error('--size must be positive')
    rows, pictures = [], ShownPictures(args.pictures, args.rows)
    for name, cfg, model in models_of(args, check_task):
        dataset = test_set_of(cfg)
        paths = paths_of(dataset)
        for place, index in enumerate(pictures.of(cfg, paths)):
            sample = dataset[index]
            with watch_upsamplers(model) as views:
                result = predicted(model, sample)
            if 'gt_alpha' not in result:
                raise run.SetupError(
                    f'{paths[index]} has no true alpha to compare with; '
                    'name --pictures that have one'
                )
            picture, unknown = host_of(cfg).picture_of(sample), result.trimap[0].numpy() == UNKNOWN
            truth, alpha = result.gt_alpha[0].numpy(), result.pred_alpha.cpu().numpy()
            part = busiest(unknown, args.size)
            if place == len(rows):
                shown = [captioned(picture[part], 'picture'), captioned(grey(truth[part]), 'truth')]
                rows.append(dict(tiles=shown, gate=[]))
            sad = np.abs(alpha - truth)[part][unknown[part]].sum() / 1000
            rows[place]['tiles'].append(captioned(grey(alpha[part]), f'{name}: SAD {sad:.2f}'))
            view = finest_gate(views)
            if view is not None:
                drawn = overlay(picture, view.gate, opacity=0.8, content=view.content)
                rows[place]['gate'] = [captioned(drawn[part], f'gate of {name}')]
    write_rows([row['tiles'] + row['gate'] for row in rows], args.out)


if __name__ == '__main__':
    run.run_tool(main)
