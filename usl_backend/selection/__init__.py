"""Selection methods: numpy and torch only; nothing of Label Studio, files or networks."""

from usl_backend.selection.base import Neighbors, Selection
from usl_backend.selection.baselines import KMeans, Random, TypiClust
from usl_backend.selection.greedy import FacilityLocation, MaxHerding
from usl_backend.selection.incremental import NewRows, score_new_rows
from usl_backend.selection.registry import METHODS, make
from usl_backend.selection.rows.neighbors import nearest_neighbors
from usl_backend.selection.selector import Selector
from usl_backend.selection.usl import USL
from usl_backend.selection.uslt.method import USLT

__all__ = [
    "METHODS",
    "USL",
    "USLT",
    "FacilityLocation",
    "KMeans",
    "MaxHerding",
    "Neighbors",
    "NewRows",
    "Random",
    "Selection",
    "Selector",
    "TypiClust",
    "make",
    "nearest_neighbors",
    "score_new_rows",
]
