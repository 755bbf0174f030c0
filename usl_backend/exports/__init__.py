"""Export of labeled and unlabeled rows in the formats of training code."""

from usl_backend.exports.check import Checked, check_export, read_manifest
from usl_backend.exports.formats import FORMATS
from usl_backend.exports.media import local_file
from usl_backend.exports.split import Row, Split
from usl_backend.exports.write import archive_split, export_split

__all__ = [
    "FORMATS",
    "Checked",
    "Row",
    "Split",
    "archive_split",
    "check_export",
    "export_split",
    "local_file",
    "read_manifest",
]
