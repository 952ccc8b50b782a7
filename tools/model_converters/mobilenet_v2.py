"""Convert ImageNet weights of MobileNetV2 1.0 (torchvision's or tonylins') for OpenMMLab's."""

import warnings
from pathlib import Path

warnings.filterwarnings('ignore', message='pkg_resources is deprecated')

from fade_mm import run
from fade_mm.papers.mobilenet_v2 import convert_mobilenet_v2


def main() -> None:
    parser = run.ToolParser(__doc__, 'mobilenet_v2.pth ours.pth')
    parser.add_argument('input', help='the weights of the classifier, or of its features')
    parser.add_argument('output', type=Path, help='the file to write; must not exist')
    parser.add_argument(
        '--config', help='whose backbone it is for, where that is not one of segmentation or depth'
    )
    args = parser.parse_args()

    run.check_output(args.output)
    run.check_weights([args.input])
    checkpoint = run.read_checkpoint(args.input)
    names = None
    if args.config:
        names = list(run.build_model(run.load_config(args.config)).backbone.state_dict())
    weights = convert_mobilenet_v2(checkpoint.get('state_dict', checkpoint), names)
    run.save_checkpoint(dict(state_dict=weights), args.output)
    print(
        f"written: {args.output}\nto be used as backbone.init_cfg=dict(type='Pretrained', "
        f"checkpoint='{args.output}')"
    )


if __name__ == '__main__':
    run.run_tool(main)
