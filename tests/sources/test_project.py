from collections.abc import Iterator
from typing import Any

import pytest

from usl_backend.errors import EncoderError, InputError, SettingsError
from usl_backend.instances import EmbeddedField, Instance
from usl_backend.progress import Progress, ignore
from usl_backend.runs.inventory import Inventory
from usl_backend.settings import HostSettings, RunSettings
from usl_backend.sources.project import ProjectSource
from usl_backend.studio.records import Project, Task

CONFIG = """<View><Image name="i" value="$image"/><Choices name="c" toName="i"><Choice value="cat"/>
<Choice value="dog"/></Choices></View>"""


class Listing:
    """What a project lists, without a server behind it."""

    def __init__(self, tasks: list[Task], label_config: str = CONFIG) -> None:
        self.listed = tasks
        self.label_config = label_config

    def project(self, project_id: int) -> Project:
        return Project(
            project_id,
            f"{project_id}.100",
            "Cats",
            100.0,
            self.label_config,
            "",
            "",
            1,
            False,
            True,
            len(self.listed),
        )

    def tasks(self, project_id: int, *, only_unlabeled: bool, progress: Progress) -> Iterator[Task]:
        assert not only_unlabeled
        yield from self.listed
        progress("listing tasks", len(self.listed), len(self.listed))


def task(number: int, *, annotations: int = 0, cancelled: int = 0, **data: Any) -> Task:
    return Task(number, data or {"image": f"/data/upload/1/{number}.png"}, annotations, cancelled)


def fetch(listing: Listing, key: str = "", **explicit: object) -> tuple[list[Instance], Inventory]:
    source = ProjectSource(
        listing,  # type: ignore[arg-type]
        12,
        project_key=key,
        settings=RunSettings.resolve(explicit=explicit, environ={}),
        host=HostSettings(),
    )
    return source.listed(ignore)


def test_fetch__unlabeled_tasks_by_id_and_skips_with_their_reason() -> None:
    listing = Listing(
        [
            task(9),
            task(2, image=" s3://bucket/2.png "),
            task(3, annotations=1),
            task(4, cancelled=1),
            task(5, image=""),
            task(6, image=None),
            task(7, text="no picture here"),
            task(8, image={"url": "a.png"}),
        ]
    )
    instances, project = fetch(listing)
    assert instances == [
        Instance(2, "image", "s3://bucket/2.png"),
        Instance(9, "image", "/data/upload/1/9.png"),
    ]
    assert project.skipped == {
        5: '"image" is empty',
        6: '"image" is empty',
        7: 'its data has no "image"',
        8: '"image" is a dict, not an address',
    }
    assert (project.tasks, project.annotated, project.labeled, project.classes) == (8, 2, (), ("cat", "dog"))


def test_fetch__kept_labels_are_listed_too_and_never_count_as_skipped() -> None:
    listing = Listing(
        [task(1), task(2, annotations=1), task(3, annotations=1, image=""), task(4, cancelled=2)]
    )
    instances, project = fetch(listing, keep_labels=True)
    assert [instance.id for instance in instances] == [1, 2, 4]
    assert project.labeled == (2, 4)
    assert project.skipped == {}


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        ([], r'project 12 \("Cats"\) has no tasks; import tasks'),
        (
            [task(1, annotations=1), task(2, cancelled=1)],
            "all 2 tasks of project 12 .* already have",
        ),
        (
            [task(1, image=""), task(2, annotations=1)],
            r"none of the 1 unlabeled tasks .* \(task 1: \"image\" is empty\)",
        ),
    ],
)
def test_fetch__nothing_to_choose_from_is_told_apart(tasks: list[Task], said: str) -> None:
    with pytest.raises(InputError, match=said):
        fetch(Listing(tasks))


def test_fetch__budget_larger_than_the_project_fails_before_any_media_is_read() -> None:
    with pytest.raises(SettingsError, match="budget is 3 but only 2 tasks can be chosen; lower the budget"):
        fetch(Listing([task(1), task(2), task(3, annotations=1)]), budget=3)


def test_fetch__another_project_under_the_same_id_is_refused() -> None:
    listing = Listing([task(1)])
    assert fetch(listing, key="12.100")[0]
    with pytest.raises(InputError, match="is not the project of this run, as its creation time differs"):
        fetch(listing, key="12.99")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ('<View><Audio name="a" value="$audio"/></View>', "shows Audio, which is not supported yet"),
        ("<View/>", "the label config shows nothing of a task"),
        ("<View>", "not well-formed XML"),
    ],
)
def test_fetch__label_config_that_shows_nothing_we_embed_is_refused(config: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        fetch(Listing([task(1)], config))


TEXTS = (
    '<View><Text name="t" value="$text"/><Choices name="c" toName="t"><Choice value="a"/></Choices></View>'
)
BOTH = '<View><Image name="i" value="$image"/><HyperText name="t" value="$html"/></View>'


def test_fetch__texts_are_their_own_sources() -> None:
    listing = Listing([task(3, text=" Hello  there "), task(1, text=" "), task(2, text={"a": 1})], TEXTS)
    instances, project = fetch(listing, budget=1)
    assert instances == [Instance(3, "text", "Hello there")]
    assert project.skipped == {1: '"text" is empty', 2: '"text" is a dict, not a text'}
    assert project.fields == (EmbeddedField("text", "text", 1.0),)


def test_fetch__several_fields_are_parts_of_one_instance() -> None:
    listing = Listing([task(1, image="a.png", html="<b>bold</b>"), task(2, image="b.png")], BOTH)
    instances, project = fetch(listing, data_key="html=0.5,image", budget=1)
    assert instances == [Instance(1, "text", "bold", fields=(("a.png",),))]
    assert project.skipped == {2: 'its data has no "html"'}
    assert project.fields == (EmbeddedField("html", "text", 0.5), EmbeddedField("image", "image", 1.0))
    assert project.data_key == "html"


def test_fetch__a_list_of_pictures_is_one_instance() -> None:
    listing = Listing([task(1, image=["a.png", " b.png"]), task(2, image=[]), task(3, image=["a.png", 4])])
    instances, project = fetch(listing, budget=1)
    assert instances == [Instance(1, "image", "a.png", ("b.png",)), Instance(3, "image", "a.png", ("",))]
    assert project.several == 2
    assert project.skipped == {2: '"image" is empty'}


def test_fetch__a_field_that_no_tag_shows_is_told_from_the_tasks() -> None:
    listing = Listing([task(1, image="/a.png", md="one"), task(2, image="/b.png", md=["two", "three"])])
    instances, project = fetch(listing, data_key="md", budget=1)
    assert instances == [Instance(1, "text", "one"), Instance(2, "text", "two", ("three",))]
    assert project.fields == (EmbeddedField("md", "text", 1.0),)


def test_fetch__a_field_is_not_looked_for_in_a_project_without_tasks() -> None:
    with pytest.raises(InputError, match="has no tasks; import tasks"):
        fetch(Listing([]), data_key="md")


@pytest.mark.parametrize(
    ("config", "encoder", "said"),
    [
        (TEXTS, "efficientnet-lite0", "takes images, but Text 't' shows texts; choose another encoder"),
        (BOTH, "minilm", "takes texts, but Image 'i' shows images; choose another encoder"),
    ],
)
def test_fetch__encoder_of_the_wrong_modality_is_refused(config: str, encoder: str, said: str) -> None:
    with pytest.raises(EncoderError, match=said):
        fetch(Listing([task(1, text="words")], config), encoder=encoder)


@pytest.mark.parametrize(("more", "regions"), [("", True), ('<Choices name="c" toName="i"/>', False)])
def test_fetch__tells_where_regions_are_drawn(more: str, regions: bool) -> None:
    drawn = '<RectangleLabels name="r" toName="i"><Label value="cat"/></RectangleLabels>'
    config = f'<View><Image name="i" value="$image"/>{drawn}{more}</View>'
    _, project = fetch(Listing([task(1), task(2)], config))
    assert project.regions is regions
    assert Inventory.from_json(project.to_json()) == project
