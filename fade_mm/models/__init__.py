"""The old place of `fade_mm.hosts.stand_ins`."""

from fade_mm.hosts.stand_ins import *  # noqa: F403
from fade_mm.hosts.stand_ins import __all__  # noqa: F401
