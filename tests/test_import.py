import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import usl_backend
from usl_backend.runs import RunStore

HEAVY = ["torch", "torchvision", "flask", "label_studio_sdk", "waitress", "rich", "PIL", "requests"]


def in_fresh_interpreter(code: str) -> Any:
    """What the last line that `code` prints holds, as JSON."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_import__loads_nothing_heavy() -> None:
    code = f"import json, sys, usl_backend\nprint(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    assert in_fresh_interpreter(code) == []


@pytest.mark.parametrize("heavy", ["torch", "flask", "label_studio_sdk"])
def test_import__command_line_is_described_without(heavy: str) -> None:
    code = (
        "import json, sys\nfrom usl_backend.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        f"print(json.dumps({heavy!r} in sys.modules))"
    )
    assert in_fresh_interpreter(code) is False


def test_import__status_lists_runs_without_a_numerical_library(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.create(project=12, settings={"budget": "3"})
    store.close()
    code = (
        f"import json, sys\nfrom usl_backend.cli import main\n"
        f"try:\n    main(['status', '--model-dir', {str(tmp_path)!r}])\nexcept SystemExit:\n    pass\n"
        "print(json.dumps(sorted({'numpy', 'torch', 'PIL', 'urllib3', 'flask'} & set(sys.modules))))"
    )
    assert in_fresh_interpreter(code) == []


@pytest.mark.parametrize("room", ["media", "runs", "settings"])
def test_import__lazy_rooms_resolve_every_name(room: str) -> None:
    module = import_module(f"usl_backend.{room}")
    assert all(getattr(module, name) is not None for name in module.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = module.nothing


@pytest.mark.parametrize("name", usl_backend.__all__)
def test_public_name__resolves_and_is_listed(name: str) -> None:
    assert getattr(usl_backend, name) is not None
    assert name in dir(usl_backend)


def test_public_name__unknown_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="UDL"):
        usl_backend.UDL  # noqa: B018


def test_version__is_the_installed_one() -> None:
    from importlib.metadata import version

    assert usl_backend.__version__ == version("usl-backend")
