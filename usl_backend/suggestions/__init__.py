"""Suggest labels from those of a few rows, estimate how many are right, and find doubtful labels. Rows only, no ids."""

from usl_backend.suggestions.acceptance import Acceptance, accept, clopper_pearson, controls_needed
from usl_backend.suggestions.calibration import Calibration, calibrate
from usl_backend.suggestions.checking import LabelCheck, label_check
from usl_backend.suggestions.control import Control
from usl_backend.suggestions.estimates import Share, accuracy, unseen_share, wilson
from usl_backend.suggestions.rounds import NextRule, next_round, next_rule
from usl_backend.suggestions.suggesting import Suggestions, suggest

__all__ = [
    "Acceptance",
    "Calibration",
    "Control",
    "LabelCheck",
    "NextRule",
    "Share",
    "Suggestions",
    "accept",
    "accuracy",
    "calibrate",
    "clopper_pearson",
    "controls_needed",
    "label_check",
    "next_round",
    "next_rule",
    "suggest",
    "unseen_share",
    "wilson",
]
