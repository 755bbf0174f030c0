import math
from collections import Counter

import numpy as np

from usl_backend.report.naming import cluster_names, words_of

TEXTS = [
    "the cat and the dog",
    "the cat sleeps",
    "a cat of the house",
    "the ship sails",
    "the ship and the sea",
    "",
]


def test_cluster_names__words_of_a_cluster_and_of_no_other() -> None:
    first, second = cluster_names(TEXTS, np.array([0, 0, 0, 1, 1, 1]), 2)
    assert first.split(", ")[0] == "cat"
    assert second.split(", ")[0] == "ship"
    assert "the" not in f"{first}, {second}".split(", ")


def test_cluster_names__order_is_that_of_the_formula() -> None:
    rng = np.random.default_rng(0)
    words = ["red", "green", "blue", "grey", "pink", "gold"]
    texts = [" ".join(rng.choice(words, 3)) for _ in range(60)]
    cluster = rng.integers(4, size=60)
    sets = [set(text.split()) for text in texts]
    for rank, name in enumerate(cluster_names(texts, cluster, 4)):
        mine = [words for words, home in zip(sets, cluster, strict=True) if home == rank]
        worth = {}
        for word in words:
            q = sum(word in one for one in sets) / 60
            p = (sum(word in one for one in mine) + 2 * q) / (len(mine) + 2)
            if p > q:
                worth[word] = p * math.log(p / q)
        best = sorted(worth, key=lambda word: (-worth[word], word))[:3]
        assert name == ", ".join(best)


def test_cluster_names__without_words_there_is_none() -> None:
    assert cluster_names(["", "12 34", "!"], np.array([0, 0, 1]), 2) == ["", ""]


def test_cluster_names__a_rare_word_of_one_task_does_not_name_a_large_cluster() -> None:
    texts = ["apple pie", "apple cake", "apple tart", "apple zyzzyva"] + ["other thing"] * 20
    (name, _) = cluster_names(texts, np.array([0] * 4 + [1] * 20), 2)
    assert name == "apple"


def test_words_of__case_digits_and_languages_without_spaces() -> None:
    assert words_of("The CAT, the cat_2 x") == {"the", "cat"}
    assert words_of("Straße größer") == {"straße", "größer"}
    assert Counter(words_of("机器学习")) == Counter(["机器", "器学", "学习"])


def test_words_of__vowels_that_are_marks_cut_no_word() -> None:
    assert words_of("हिन्दी भाषा, सुन्दर") == {"हिन्दी", "भाषा", "सुन्दर"}
    assert words_of("தமிழ் மொழி") == {"தமிழ்", "மொழி"}
    assert words_of("cafe\u0301 می\u200cشود") == {"cafe\u0301", "می\u200cشود"}
    assert words_of("ที่นี่") == {"ที", "ี่", "่น", "นี"}
