"""Budgets: "100", "5%" and "4/class", parsed once on input."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from usl_backend.errors import SettingsError

BUDGET_HELP = 'give a positive number, a share such as "5%", or "4/class"'


@dataclass(frozen=True)
class Budget:
    """Number of instances to choose.

    Attributes
    ----------
    text
        The user's input.
    unit
        Unit of `amount`: instances, per cent of the pool, or instances per class.
    amount
        Positive; a whole number unless the unit is per cent.
    """

    text: str
    unit: Literal["count", "percent", "class"]
    amount: float

    @classmethod
    def parse(cls, value: object) -> Budget:
        """Read a budget.

        Parameters
        ----------
        value
            "100", 100, "5%" or "4/class".

        Raises
        ------
        SettingsError
            The value has another form, is zero or negative, or is more than 100 %.
        """
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise SettingsError(f"budget is {value!r}; {BUDGET_HELP}")
        text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
        match = re.fullmatch(r"(-?\d+(?:\.\d+)?)\s*(%|/\s*class)?", text)
        if match is None:
            raise SettingsError(f'budget is "{text}"; {BUDGET_HELP}')
        amount, unit = float(match[1]), match[2]
        if amount <= 0 or (unit == "%" and amount > 100) or (unit != "%" and not amount.is_integer()):
            raise SettingsError(f'budget is "{text}"; {BUDGET_HELP}')
        return cls(text, "count" if unit is None else "percent" if unit == "%" else "class", amount)

    def wanted(self, *, classes: int) -> int:
        """Return the number of rows asked for, whatever the pool's size; 0 for a share of the pool."""
        if self.unit == "percent":
            return 0
        return int(self.amount) * (classes if self.unit == "class" else 1)

    def rows(self, *, classes: int, pool: int) -> int:
        """Return the number of rows to choose, m.

        Parameters
        ----------
        classes
            Number of classes in the label config; 0 if it has none.
        pool
            Number of rows that can be chosen.

        Raises
        ------
        SettingsError
            The pool is empty or smaller than the budget, or the budget is "N/class" and there are no classes.
        """
        _refuse_empty(pool)
        if self.unit == "percent":
            return max(1, math.floor(pool * self.amount / 100))
        if self.unit == "class" and classes == 0:
            raise SettingsError(
                f'budget is "{self.text}" but the label config names no classes; give a number or a share'
            )
        count = self.wanted(classes=classes)
        if count > pool:
            raise SettingsError(f"budget is {count} but only {pool} tasks can be chosen; lower the budget")
        return count


def default_rows(*, classes: int, pool: int) -> int:
    """Return the number of rows to choose without a budget: 4 per class, at least 20, at most 10 % of the pool.

    Raises
    ------
    SettingsError
        The pool is empty.
    """
    _refuse_empty(pool)
    return max(1, min(max(4 * classes, 20), pool // 10))


def _refuse_empty(pool: int) -> None:
    """Raise SettingsError for an empty pool."""
    if pool < 1:
        raise SettingsError("the pool is empty: there is no readable task without annotations to choose from")
