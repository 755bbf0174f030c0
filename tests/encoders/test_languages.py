import pytest

from usl_backend.encoders.languages import MOST_TEXTS, Languages, languages_of

ENGLISH = [
    "the battery died after a week",
    "works well",
    "arrived late and the box was open",
    "great value",
] * 10
GERMAN = [
    "der Akku war nach einer Woche leer",
    "funktioniert gut",
    "kam zu spät und war offen",
    "sehr günstig",
] * 10
JAPANESE = ["電池は一週間で切れました", "よく動きます", "箱が開いていました", "お得です"] * 10


def test_languages_of__short_texts_are_told_in_groups():
    assert languages_of(ENGLISH) == Languages(40, 40, "")
    assert languages_of(GERMAN) == Languages(40, 0, "de")
    # One by one, half of these are taken for other languages.
    words = ["audio mixer", "mail server", "image viewer", "puzzle game", "font editor", "database client"]
    assert languages_of(words * 10) == Languages(60, 60, "")


def test_languages_of__scripts_do_not_share_a_group():
    mixed = [text for pair in zip(ENGLISH, JAPANESE, strict=True) for text in pair]
    assert languages_of(mixed) == Languages(80, 40, "ja")


def test_languages_of__an_even_sample_of_many_texts():
    found = languages_of(ENGLISH * 100 + GERMAN * 300)
    assert found is not None
    assert found.texts == MOST_TEXTS
    assert 60 < found.english < 90
    assert not found.mostly_english
    assert (
        str(found) == f"about {round(100 - found.english / 3)} % of the texts are not in English (mostly de)"
    )


@pytest.mark.parametrize("texts", [[], ["", "12.50", "🙂"]])
def test_languages_of__nothing_to_tell_from(texts):
    assert languages_of(texts) is None


def test_languages_of__without_the_detector(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "py3langid.langid", None)
    assert languages_of(GERMAN) is None
