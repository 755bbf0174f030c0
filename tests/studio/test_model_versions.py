from types import SimpleNamespace

import pytest

from usl_backend.errors import InputError
from usl_backend.studio.model_versions import (
    Origin,
    delete_version,
    is_of_run,
    is_ours,
    model_version,
    origin,
)


@pytest.mark.parametrize("installation", ["", "3f9a1c", "000000"])
def test_model_version__is_recognized(installation):
    version = model_version("12-7", installation)
    assert is_ours(version)
    assert is_of_run(version, "12-7")
    assert not is_of_run(version, "12-71")
    assert not is_of_run(version, "2-7")


def test_model_version__two_installations_never_share_one():
    assert len({model_version("12-7", name) for name in ("", "3f9a1c", "3f9a1d")}) == 3


@pytest.mark.parametrize(
    "name", ["usl", "usl-12", "usl-12-7-", "usl-12-7-3f9", "usl-12-7-mine", "USL-12-7", "my usl-12-7", None]
)
def test_is_ours__titles_that_people_give_are_not(name):
    assert not is_ours(name)


@pytest.mark.parametrize("run_id", ["", "12", "12-7-3f9a1c", "A-1", "a-b-1", "12-7\n"])
def test_model_version__of_what_is_no_run(run_id):
    with pytest.raises(InputError, match="such as 12-7"):
        model_version(run_id)


@pytest.mark.parametrize("installation", ["", "3f9a1c"])
def test_run_of__pools_outside_label_studio(installation):
    version = model_version("photos_2-3", installation)
    assert version.startswith("usl-pool-photos_2-3")
    assert is_ours(version)
    assert is_of_run(version, "photos_2-3")
    assert not is_of_run(version, "photos-3")


def test_is_ours__a_model_of_the_users_is_not():
    assert not is_ours("usl-model-2")


@pytest.mark.parametrize("run", ["12-7", "photos_2-3"])
@pytest.mark.parametrize("installation", ["", "3f9a1c", "202611"])
@pytest.mark.parametrize("at", [None, 1795794646.0])
def test_origin__is_what_the_version_was_made_of(run, installation, at):
    version = model_version(run, installation, at=at)
    assert origin(version) == Origin(run, installation)
    assert version.endswith("-20261127T155046") == (at is not None)


def test_origin__of_what_is_not_ours():
    assert [origin(name) for name in (None, "", "other", "usl-12-7-20261127")] == [None] * 4


@pytest.mark.parametrize(("count", "patience"), [(0, 600.0), (12_000, 600.0), (100_000, 5000.0)])
def test_delete_version__waits_for_as_long_as_many_predictions_take(count, patience):
    asked = []

    class Http:
        timeout = 600.0

        def json(self, method, path, *, body, timeout):
            asked.append((method, body, timeout))

    client = SimpleNamespace(http=Http(), project=lambda _: SimpleNamespace(model_version="other"))
    delete_version(client, 12, "usl-12-7", count=count)
    assert asked == [("DELETE", {"model_version": "usl-12-7"}, patience)]
