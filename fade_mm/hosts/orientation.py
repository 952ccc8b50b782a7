"""Pictures whose files ask to be turned (EXIF), as OpenCV does when it reads them."""

from contextlib import suppress

from PIL import Image

_ORIENTATION = 0x0112  # EXIF's number of it


def turned(path: str) -> str:
    """What to say of a picture whose file asks to be turned, as OpenCV does; ``''`` of others."""
    orientation, _ = turn_of(path)
    if orientation == 1:
        return ''
    return (
        f'; its file asks to be turned (EXIF orientation {orientation}): save it as it is to be '
        "seen, or read it with color_type='color_ignore_orientation'"
    )


def turn_of(path: str) -> tuple[int, bool]:
    """The EXIF orientation of a picture, 1 for no turn, and whether that turn keeps its size.

    What is no picture on a disk asks for none.
    """
    with suppress(OSError), Image.open(path) as picture:
        orientation = picture.getexif().get(_ORIENTATION, 1)
        if orientation in range(2, 9):  # 2 to 4 mirror or turn by 180 degrees, 5 to 8 by 90
            return orientation, orientation < 5 or picture.width == picture.height
    return 1, True
