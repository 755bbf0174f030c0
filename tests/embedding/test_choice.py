from contextlib import contextmanager
from pathlib import Path

import pytest

from usl_backend.embedding.choice import encoders_for
from usl_backend.encoders.choosing import EncoderChoice
from usl_backend.encoders.e5 import PACKAGED
from usl_backend.instances import EmbeddedField, Instance, TextFile
from usl_backend.media import Location, MediaReader
from usl_backend.runs import RunFiles
from usl_backend.settings import RunSettings

pytestmark = pytest.mark.usefixtures("empty_hub")

TEXT, IMAGE = EmbeddedField("text", "text", 1.0), EmbeddedField("image", "image", 1.0)
GERMAN = "Der Akku war nach einer Woche leer und das Gehäuse ist zerkratzt."
ENGLISH = "The battery died after a week and the case is scratched."


def choice_of(instances, fields, open_media=None, **settings):
    return encoders_for(
        instances,
        fields,
        settings=RunSettings.resolve(explicit={"engine": "torch", **settings}, environ={}),
        open_media=open_media,
        directory=Path("/nonexistent"),
    )


def texts(*sources):
    return [Instance(number, "text", source) for number, source in enumerate(sources)]


def test_encoders_for__texts_decide_in_any_order():
    pool = texts(*[GERMAN] * 30, *[ENGLISH] * 10)
    found = choice_of(pool, [TEXT])
    assert found.encoders == {"text": PACKAGED}
    assert choice_of(pool[::-1], [TEXT]) == found
    assert choice_of(texts(*[ENGLISH] * 30, GERMAN), [TEXT]).encoders == {"text": "minilm"}
    assert "knows only English" in choice_of(pool, [TEXT], encoder="minilm").warning


def test_encoders_for__pictures_are_not_looked_at():
    assert choice_of([Instance(1, "image", "a.png")], [IMAGE]) == EncoderChoice(
        {"image": "efficientnet-lite0"}
    )


def test_encoders_for__the_text_beside_a_picture_and_several_texts():
    both = [Instance(n, "image", "a.png", fields=((ENGLISH, GERMAN, GERMAN + "!"),)) for n in range(9)]
    found = choice_of(both, [IMAGE, TEXT])
    assert found.encoders == {"image": "efficientnet-lite0", "text": PACKAGED}
    assert found.languages.texts == 27


def test_encoders_for__some_files_with_texts_are_read(tmp_path):
    for number in range(60):
        (tmp_path / f"{number}.html").write_text(f"<p>{GERMAN}</p>")
    opened, asked = [], []

    class Files:
        reader = MediaReader(local_roots=(tmp_path,))

        def locations(self, instance):
            asked.append(instance.id)
            return [Location(path=tmp_path / instance.source)]

    @contextmanager
    def media():
        opened.append(1)
        yield Files()

    pool = [Instance(n, "text", f"{n}.html", files=(TextFile("doc", "HyperText"),)) for n in range(61)]
    assert choice_of(pool, [TEXT], media).encoders == {"text": PACKAGED}
    assert len(opened) == 1
    assert len(asked) < 30


def test_encoders__are_stored_with_the_run(tmp_path):
    files = RunFiles(tmp_path)
    assert not files.has_encoders()
    assert files.read_encoders(None, [TEXT]).encoders == {"text": "minilm"}, "a run of an earlier version"
    found = choice_of(texts(*[GERMAN] * 9), [TEXT])
    files.write_encoders(found)
    assert files.read_encoders(None, [TEXT]) == found


@pytest.mark.parametrize("setting", ["e5-small", None])
def test_encoders__the_way_to_the_weights_is_stored_too(setting):
    assert choice_of(texts(*[GERMAN] * 9), [TEXT], encoder=setting).encoders == {"text": PACKAGED}
