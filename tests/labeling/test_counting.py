"""Counts against brute force over made-up projects."""

import random
from datetime import UTC, datetime

import pytest

from usl_backend.instances import Queue
from usl_backend.labeling.counting import by_annotator, by_class, by_role, coverage_now, pace, sort_tasks
from usl_backend.labeling.state import RoleCount
from usl_backend.studio.records import LabeledTask

CONFIG = """<View><Image name="i" value="$image"/><Choices name="c" toName="i"><Choice value="cat"/>
<Choice value="dog"/><Choice value="owl"/></Choices></View>"""
NOW = datetime(2026, 11, 27, 12, tzinfo=UTC).timestamp()


def annotation(name, *, who=1, ago=0.0, cancelled=False, accepted=False):
    """One annotation; without a name it is empty."""
    region = {"id": "usl-accepted-1" if accepted else "abc", "from_name": "c", "value": {"choices": [name]}}
    stamp = datetime.fromtimestamp(NOW - ago, tz=UTC).isoformat()
    return {
        "id": random.getrandbits(30), "completed_by": who, "was_cancelled": cancelled, "created_at": stamp,
        "updated_at": stamp, "result": [region] if name else [],
    }  # fmt: skip


def task(number, *annotations):
    return LabeledTask(number, {}, annotations)


@pytest.mark.parametrize("seed", range(8))
def test_counts__are_those_of_brute_force(seed):
    draw = random.Random(seed)
    ids = list(range(1, 61))
    order = draw.sample(ids, 30)
    queue = Queue.of(order[:10], control=[order[3], *order[10:20]], reserve=order[20:])
    tasks, wanted = [], {role: [0, 0] for role in ("pick", "control", "reserve", "other")}
    people = {1: 0, 2: 0, 3: 0}
    classes = {"cat": 0, "dog": 0, "owl": 0}
    for one in draw.sample(ids, 40):
        parts = {"pick": order[:10], "control": order[10:20], "reserve": order[20:]}
        role = next((name for name, part in parts.items() if one in part), "other")
        kind = draw.choice(["one", "two", "skip", "accepted"])
        name = draw.choice(list(classes))
        who = draw.sample([1, 2, 3], 2)
        if kind == "skip":
            tasks.append(task(one, annotation("", who=who[0], cancelled=True)))
            wanted[role][1] += 1
        elif kind == "accepted":
            tasks.append(task(one, annotation(name, who=who[0], accepted=True)))
        else:
            both = [annotation(name, who=person) for person in who[: 1 if kind == "one" else 2]]
            tasks.append(task(one, *both))
            wanted[role][0] += 1
            classes[name] += 1
            for entry in both:
                people[entry["completed_by"]] += 1
    found = sort_tasks(tasks)
    counts = by_role(queue, found, total=60)
    sizes = {"pick": 10, "control": 10, "reserve": 10, "other": 30}
    assert counts == {
        role: RoleCount(labeled, sizes[role], skipped) for role, (labeled, skipped) in wanted.items()
    }
    told = by_annotator(tasks, {1: "Ann"})
    assert {one.id: one.labeled for one in told} == {who: n for who, n in people.items() if n}
    assert [one.labeled for one in told] == sorted((one.labeled for one in told), reverse=True)
    assert {one.name for one in told} <= {"Ann", "user 2", "user 3"}
    assert {one.name: one.labeled for one in by_class(tasks, CONFIG)[0]} == classes


def test_by_role__deleted_tasks_do_not_wait_and_roles_go_by_studio_tasks():
    queue = Queue.of([1, 2, 3])
    counts = by_role(queue, sort_tasks([task(1, annotation("cat"))]), total=9, gone={3})
    assert counts["pick"] == RoleCount(1, 2)
    assert counts["pick"].left == 1
    assert by_role(None, sort_tasks([]), total=9)["other"] == RoleCount(0, 9)


def test_by_class__ties_and_configs_without_classes():
    tied = [task(1, annotation("cat", who=1), annotation("dog", who=2)), task(2, annotation("gnu"))]
    classes, disputed, reason = by_class(tied, CONFIG)
    assert [(one.name, one.labeled) for one in classes] == [("cat", 0), ("dog", 0), ("owl", 0), ("gnu", 1)]
    assert (disputed, reason) == (1, "")
    boxes = CONFIG.replace("Choices", "RectangleLabels").replace("Choice ", "Label ")
    assert by_class(tied, boxes)[0] == ()
    assert "RectangleLabels" in by_class(tied, boxes)[2]


@pytest.mark.parametrize(
    ("ago", "last_hour", "per_hour", "left"),
    [
        ([], 0, None, None),
        ([4000], 0, None, None),
        ([1800, 900, 0], 3, 6.0, 6000.0),  # three in half an hour; ten tasks are left
        ([4000, 3000, 1500], 2, 2.4, 15000.0),
        ([10, 5], 2, 120.0, 300.0),  # over a minute at least
        ([-90, 30], 2, 60.0, 600.0),  # Label Studio's clock is ahead
    ],
)
def test_pace(ago, last_hour, per_hour, left):
    tasks = [task(number, annotation("cat", ago=one)) for number, one in enumerate(ago)]
    found = pace(tasks, left=10, now=NOW)
    assert (found.last_hour, found.per_hour, found.seconds_left) == (last_hour, per_hour, left)


@pytest.mark.parametrize("seed", range(6))
def test_coverage_now__exact_for_the_first_picks_and_never_too_high(seed):
    draw = random.Random(seed)
    reach = {pick: {row for row in range(100) if draw.random() < 0.1} for pick in range(1, 9)}
    before = {row for row in range(100) if draw.random() < 0.1}
    covered, seen, curve = {}, set(before), []
    for pick, rows in reach.items():
        covered[pick] = len(rows - seen) / 100
        seen |= rows
        curve.append(len(seen) / 100)
    labeled = set(draw.sample(list(reach), 4))
    for some in (labeled, {1, 2, 3}, set()):
        found = coverage_now(list(reach), some, covered=covered, curve=curve, random=[0.1] * 8)
        truth = len(before.union(*(reach[pick] for pick in some))) / 100
        assert found.now <= truth + 1e-9
        assert found.labeled == len(some)
        assert (found.picks, found.random) == (curve[-1], 0.1)
        if some != labeled:
            assert found.now == pytest.approx(truth)


def test_coverage_now__without_a_curve():
    assert coverage_now([1], {1}, covered={}, curve=[], random=[]) is None
