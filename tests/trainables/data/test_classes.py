from __future__ import annotations

import numpy as np
import pytest

from trainables.core.errors import DataError
from trainables.data.cifar import Cifar10, Cifar100
from trainables.data.classes import classes, numbers, remarks
from trainables.data.idx import Idx
from trainables.data.mnist import FashionMnist


def test_names_of_known_data_sets_are_as_many_as_their_classes() -> None:
    for kind in (Cifar10, Cifar100, FashionMnist):
        assert len(set(kind.class_names)) == kind.classes


def test_a_part_of_a_known_data_set_keeps_all_classes_and_says_which_are_absent() -> None:
    labels = np.array([0, 1, 9])
    found = classes(Cifar10(), labels, ())
    assert found.values == tuple(range(10))
    (line,) = remarks(Cifar10(), labels, found)
    assert line == "7 of 10 classes have no images: bird, cat, deer, ...; `select` leaves them out"


def test_names_in_files_of_another_number_give_way_to_the_known_ones() -> None:
    assert classes(Cifar10(), np.arange(10), ("animal", "vehicle")).names == Cifar10.class_names
    assert classes(Cifar10(), np.arange(10), tuple("abcdefghij")).names == tuple("abcdefghij")


def test_numbers_of_labels_in_any_order() -> None:
    kept, found = numbers(Idx(select=(7, 2**40, 3)), np.array([3, 2**40, 5, 7, 7]), (7, 2**40, 3))
    assert kept.tolist() == [True, True, False, True, True]
    assert found.tolist() == [2, 1, 0, 0]
    with pytest.raises(DataError, match="no training image has the label 5"):
        numbers(Idx(), np.array([3, 5]), (3, 7))
