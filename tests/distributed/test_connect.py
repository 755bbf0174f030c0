import sys

import pytest

from usl_backend.distributed import connect
from usl_backend.errors import InputError, RunError, SettingsError
from usl_backend.settings import HostSettings

pytestmark = pytest.mark.filterwarnings("default")


def test_connect__no_cluster_to_be_found_is_said_with_what_to_do() -> None:
    with pytest.raises(RunError, match=r"ray_address 'auto' .*ray start"), connect("auto"):
        raise AssertionError("connected to nothing")


def test_connect__without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"usl-backend\[ray\]"), connect("auto"):
        raise AssertionError("connected to nothing")


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "http://head:6379", "head:6379/x"])
def test_ray_address__what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(SettingsError, match="USL_RAY_ADDRESS"):
        HostSettings.load({"ray_address": address})
