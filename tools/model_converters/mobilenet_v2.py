"""Convert ImageNet weights of MobileNetV2 1.0 (torchvision's or tonylins') for OpenMMLab's."""

import warnings
from pathlib import Path

warnings.filterwarnings('ignore', message='pkg_resources is deprecated')

from fade_mm import run
from fade_mm.papers.mobilenet_v2 import convert_mobilenet_v2


def main() -> None:
    parser = run.ToolParser(
        __doc__, 'mobilenet_v2.pth ours.pth', '--library mmdet mobilenet_v2.pth ours.pth'
    )
    parser.add_argument(
        '--library',
        choices=('mmseg', 'mmdet'),
        default='mmseg',
        help='whose backbone it is for, by the names of its layers (default: mmseg)',
    )
    parser.add_argument('input', help='the weights of the classifier, or of its features')
    parser.add_argument('output', type=Path, help='the file to write; must not exist')
    args = parser.parse_args()

    run.check_output(args.output)
    run.check_weights([args.input])
    checkpoint = run.read_checkpoint(args.input)
    weights = convert_mobilenet_v2(checkpoint.get('state_dict', checkpoint), args.library)
    run.save_checkpoint(dict(state_dict=weights), args.output)
    print(
        f"written: {args.output}\nto be used as backbone.init_cfg=dict(type='Pretrained', "
        f"checkpoint='{args.output}')"
    )


if __name__ == '__main__':
    run.run_tool(main)
