"""Figures about a selection, given the true classes: spread over classes, and what the labels are worth."""

from .accuracy import linear_accuracy, nearest_neighbor_accuracy, propagation_accuracy
from .coverage import ClassSpread, class_spread

__all__ = [
    "ClassSpread",
    "class_spread",
    "linear_accuracy",
    "nearest_neighbor_accuracy",
    "propagation_accuracy",
]
