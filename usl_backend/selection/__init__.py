"""Selection methods: numpy and faiss only, nothing of Label Studio, files or networks.

`METHODS` maps the name that users type to the class.
"""

from .base import Neighbors, Progress, Selection, Selector
from .neighbors import nearest_neighbors
from .usl import USL, USLParameters

METHODS: dict[str, type[Selector]] = {"usl": USL}
"""Method name -> class: `METHODS["usl"](preset="paper-cifar10")`."""

__all__ = [
    "METHODS",
    "USL",
    "Neighbors",
    "Progress",
    "Selection",
    "Selector",
    "USLParameters",
    "nearest_neighbors",
]
