"""Selection methods: numpy, faiss and torch only, nothing of Label Studio, files or networks.

`METHODS` maps the name that users type to the class.
"""

from usl_backend.selection.base import Neighbors, Selection, Selector
from usl_backend.selection.baselines import KCenter, KMeans, Random, TypiClust
from usl_backend.selection.greedy import RDSS, FacilityLocation, MaxHerding, ProbCover
from usl_backend.selection.incremental import NewRows, score_new_rows
from usl_backend.selection.presets import USLParameters
from usl_backend.selection.rows.neighbors import nearest_neighbors
from usl_backend.selection.usl import USL
from usl_backend.selection.uslt.method import USLT
from usl_backend.selection.uslt.presets import USLTParameters

METHODS: dict[str, type[Selector]] = {
    "usl": USL,
    "usl-t": USLT,
    "random": Random,
    "k-means": KMeans,
    "k-center": KCenter,
    "typiclust": TypiClust,
    "probcover": ProbCover,
    "maxherding": MaxHerding,
    "rdss": RDSS,
    "facility-location": FacilityLocation,
}
"""Method name -> class: `METHODS["usl"](preset="paper-cifar10")`."""

__all__ = [
    "METHODS",
    "RDSS",
    "USL",
    "USLT",
    "FacilityLocation",
    "KCenter",
    "KMeans",
    "MaxHerding",
    "Neighbors",
    "NewRows",
    "ProbCover",
    "Random",
    "Selection",
    "Selector",
    "TypiClust",
    "USLParameters",
    "USLTParameters",
    "nearest_neighbors",
    "score_new_rows",
]
