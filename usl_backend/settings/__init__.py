"""Define every option once; flags, environment variables, extra_params and JSON keys derive from here.

A run option `budget` is the flag `--budget`, the environment variable `USL_BUDGET`, the extra_params and JSON key
`budget` and the row `budget` of the reference. The options of a selection method are read from its constructor, so
no name or default is written twice. Precedence: default < environment < extra_params < explicit.
"""

from usl_backend.settings.budget import Budget
from usl_backend.settings.host import HostSettings
from usl_backend.settings.options import OPTIONS, Option, Scope, settings_table
from usl_backend.settings.run import RunSettings, check_extra_params, parse_extra_params

__all__ = [
    "OPTIONS",
    "Budget",
    "HostSettings",
    "Option",
    "RunSettings",
    "Scope",
    "check_extra_params",
    "parse_extra_params",
    "settings_table",
]
