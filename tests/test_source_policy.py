"""What the source may not do, whatever it would be good for: load code as data, run text, or hand text to a shell."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
SOURCES = sorted(
    path for folder in ("usl_backend", "examples", "benchmarks") for path in (ROOT / folder).rglob("*.py")
)

FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "subprocess.getoutput"}
UNSAFE_YAML = {"yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load"}


def faults(text: str, name: str = "source.py") -> Iterator[str]:
    """Everything in a source that the policy forbids, as `name:line: what`."""
    for node in ast.walk(ast.parse(text, name)):
        for what in (*_imports(node), *_calls(node)):
            yield f"{name}:{node.lineno}: {what}"


def _imports(node: ast.AST) -> Iterator[str]:
    modules: list[str] = []
    if isinstance(node, ast.Import):
        modules = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module is not None:
        modules = [node.module]
        # torch.load by its bare name could not be told from another load
        modules += [f"{node.module}.{alias.name}" for alias in node.names]
    # the name of an error that is caught loads nothing
    if ast.unparse(node) == "from pickle import UnpicklingError":
        return
    for module in modules:
        if module.split(".")[0] in FORBIDDEN_MODULES:
            yield f"imports {module}"
        if module in ("torch.load", "numpy.load", "yaml.load", "os.system"):
            yield f"imports {module} without its module's name"


def _calls(node: ast.AST) -> Iterator[str]:
    if not isinstance(node, ast.Call):
        return
    name = ast.unparse(node.func)
    keywords = {keyword.arg: keyword.value for keyword in node.keywords}

    def is_constant(keyword: str, value: bool) -> bool:
        given = keywords.get(keyword)
        return isinstance(given, ast.Constant) and given.value is value

    if name in ("np.load", "numpy.load", "np.lib.format.read_array") and not is_constant(
        "allow_pickle", False
    ):
        yield f"{name} without allow_pickle=False"
    if name == "torch.load" and not is_constant("weights_only", True):
        yield "torch.load without weights_only=True"
    if name in FORBIDDEN_CALLS or name in UNSAFE_YAML or name.split(".")[0] in FORBIDDEN_MODULES:
        yield f"calls {name}"
    if "shell" in keywords and not is_constant("shell", False):
        yield f"{name} with a shell"
    if name.endswith(".extractall") and not any(keyword == "filter" for keyword in keywords):
        yield f"{name} without a filter"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_source__loads_no_code_and_runs_no_text(path: Path) -> None:
    assert list(faults(path.read_text(encoding="utf-8"), path.name)) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "import joblib.numpy_pickle",
        "from pickle import loads",
        "import cloudpickle as json",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=chosen)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "from torch import load",
        "yaml.load(text)",
        "eval(text)",
        "exec(text)",
        "subprocess.run(text, shell=True)",
        "subprocess.run(text, shell=chosen)",
        "os.system(text)",
        "pickle.loads(data)",
        "archive.extractall(path)",
    ],
)
def test_policy__finds_each_of_them(line: str) -> None:
    assert list(faults(line))


@pytest.mark.parametrize(
    "line",
    [
        "np.load(path, mmap_mode='r', allow_pickle=False)",
        "torch.load(path, map_location='cpu', weights_only=True)",
        "from pickle import UnpicklingError",
        "yaml.safe_load(text)",
        "model.eval()",
        "re.compile(text)",
        "subprocess.run([program], shell=False)",
    ],
)
def test_policy__lets_the_safe_ones_pass(line: str) -> None:
    assert list(faults(line)) == []


def requirements() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"].values()
    return [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *(r for e in extras for r in e),
    ]


@pytest.mark.parametrize("text", requirements())
def test_dependencies__every_one_has_an_upper_bound(text: str) -> None:
    requirement = Requirement(text)
    if requirement.name == "usl-backend":  # our own extras
        return
    assert requirement.url is None, f"{text}: from the package index only"
    assert any(bound.operator in ("<", "<=", "==", "~=") for bound in requirement.specifier), (
        f"{text} has no upper bound"
    )
