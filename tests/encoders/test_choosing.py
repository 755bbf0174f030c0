import pytest

from usl_backend.encoders import choosing
from usl_backend.encoders.choosing import EncoderChoice, choose_encoders
from usl_backend.encoders.e5 import PACKAGED
from usl_backend.encoders.languages import Languages
from usl_backend.errors import EncoderError

pytestmark = pytest.mark.usefixtures("empty_hub")

GERMAN, ENGLISH = Languages(300, 9, "de"), Languages(300, 290, "fr")


def test_choose_encoders__e5_for_texts_that_are_not_english():
    found = choose_encoders(None, ["text", "image"], languages=GERMAN)
    assert found.encoders == {"text": PACKAGED, "image": "efficientnet-lite0"}
    assert (found.warning, found.reason) == ("", "about 97 % of the texts are not in English (mostly de)")
    assert choose_encoders(None, ["text"], languages=ENGLISH) == EncoderChoice({"text": "minilm"}, ENGLISH)
    assert choose_encoders(None, ["text"]).encoders == {"text": "minilm"}


def test_choose_encoders__a_warning_where_e5_is_not_here(monkeypatch):
    monkeypatch.setattr(choosing, "is_here", lambda _: False)
    found = choose_encoders(None, ["text"], languages=GERMAN)
    assert found.encoders == {"text": "minilm"}
    assert found.reason == ""
    for said in ("97 % of the texts", "minilm knows only English", 'pip install "usl-backend[e5]"'):
        assert said in found.warning


def test_choose_encoders__the_setting_wins_and_is_warned_about():
    assert "minilm knows only English" in choose_encoders("minilm", ["text"], languages=GERMAN).warning
    own = choose_encoders("sentence-transformers:team/model", ["text"], languages=GERMAN)
    assert (own.encoders, own.warning) == ({"text": "sentence-transformers:team/model"}, "")
    asked = choose_encoders("e5-small", ["text"], languages=GERMAN)
    assert (asked.encoders, asked.reason) == ({"text": PACKAGED}, ""), "its user chose it"
    assert choose_encoders("e5-small", ["text"], languages=ENGLISH).encoders == {"text": PACKAGED}
    assert choose_encoders("field:vector", ["text"], languages=GERMAN).encoders == {}
    with pytest.raises(EncoderError, match="unknown encoder"):
        choose_encoders("minilmm", ["text"])


def test_encoder_choice__survives_json():
    for one in (EncoderChoice(), choose_encoders(None, ["text"], languages=GERMAN)):
        assert EncoderChoice.from_json(one.to_json()) == one
