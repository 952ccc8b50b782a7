"""What is known of a picture that is matted, and the values of a trimap."""

from mmengine.structures import BaseDataElement

BACKGROUND, UNKNOWN, FOREGROUND = 0, 128, 255


class MattingSample(BaseDataElement):
    """A picture's trimap, truth and prediction.

    Data fields:
        trimap: ``(1, h, w)``, uint8: 0 background, 128 unknown, 255 foreground.
        gt_alpha: ``(1, h, w)``, float32, 0 to 1. In training, and where there is a truth.
        gt_fg, gt_bg: Colours that the picture is composed of, ``(3, h, w)``, float32, BGR, 0 to
            255. In training.
        pred_alpha: The model's result at the picture's own size, ``(h, w)``, float32, 0 to 1.

    Metainfo: ``img_path``, ``trimap_path``, ``alpha_path``, ``ori_shape``, ``img_shape``.
    """
