"""Metrics of a selection: class balance, pool coverage, label efficiency and accuracy of simple classifiers."""

from .accuracy import linear_accuracy, nearest_neighbor_accuracy, propagation_accuracy
from .coverage import ClassSpread, class_spread

__all__ = [
    "ClassSpread",
    "class_spread",
    "linear_accuracy",
    "nearest_neighbor_accuracy",
    "propagation_accuracy",
]
