"""What "100", "5%" and "4/class" mean; nothing here chooses anything."""

from __future__ import annotations

import math
import re
from typing import Literal

from usl_backend.errors import SettingsError

BUDGET_HELP = 'give a positive number, a share such as "5%", or "4/class"'


def parse_budget(text: str) -> tuple[Literal["count", "percent", "class"], float]:
    """Kind and amount of a budget.

    Parameters
    ----------
    text
        "100", "5%" or "4/class".

    Raises
    ------
    SettingsError
        Not one of these, zero, negative, or more than 100 %.
    """
    match = re.fullmatch(r"(-?\d+(?:\.\d+)?)\s*(%|/\s*class)?", text.strip())
    if match is None:
        raise SettingsError(f'budget is "{text}"; {BUDGET_HELP}')
    amount, unit = float(match[1]), match[2]
    if amount <= 0 or (unit == "%" and amount > 100) or (unit != "%" and not amount.is_integer()):
        raise SettingsError(f'budget is "{text}"; {BUDGET_HELP}')
    if unit is None:
        return "count", amount
    return ("percent" if unit == "%" else "class"), amount


def resolve_budget(budget: str | None, *, classes: int, pool: int) -> int:
    """Number of tasks to choose, m.

    Parameters
    ----------
    budget
        As in `RunSettings.budget`.
    classes
        Number of classes in the label config; 0 when it has none.
    pool
        Number of tasks that can be chosen.

    Raises
    ------
    SettingsError
        The pool is empty, smaller than the budget, or "N/class" without classes.
    """
    if pool < 1:
        raise SettingsError("the pool is empty: there is no readable task without annotations to choose from")
    if budget is None:
        return max(1, min(max(4 * classes, 20), pool // 10))
    kind, amount = parse_budget(budget)
    if kind == "percent":
        return max(1, math.floor(pool * amount / 100))
    if kind == "class" and classes == 0:
        raise SettingsError(
            f'budget is "{budget}" but the label config names no classes; give a number or a share'
        )
    count = int(amount) * (classes if kind == "class" else 1)
    if count > pool:
        raise SettingsError(f"budget is {count} but only {pool} tasks can be chosen; lower the budget")
    return count
