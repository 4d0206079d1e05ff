"""The packaged numbers of the benchmark."""

from __future__ import annotations

from collections import Counter

import pytest

from search.results import references
from trainables.core.errors import SpecError


def test_the_leaderboards_are_complete() -> None:
    rows = references.reference("piras2024").rows
    boards = Counter((row.data, row.model, row.structure) for row in rows)
    assert boards == {
        ("cifar10", "resnet18", "unstructured"): 30,
        ("cifar10", "vgg16", "unstructured"): 30,
        ("cifar10", "resnet18", "filter"): 12,
        ("cifar10", "vgg16", "filter"): 12,
        ("svhn", "resnet18", "unstructured"): 24,
        ("svhn", "vgg16", "unstructured"): 28,
        ("svhn", "resnet18", "filter"): 9,
        ("svhn", "vgg16", "filter"): 9,
    }
    assert {(row.structure, row.sparsity) for row in rows} == {
        *(("unstructured", share) for share in (0.9, 0.95, 0.99)),
        *(("filter", share) for share in (0.5, 0.75, 0.9)),
    }


@pytest.mark.parametrize(
    ("board", "sparsity", "method", "clean", "robust"),
    [
        (("cifar10", "resnet18", "unstructured"), 0.9, "FlyingBird", 0.8069, 0.4649),
        (("cifar10", "resnet18", "unstructured"), 0.99, "HARP", 0.8311, 0.4550),
        (("cifar10", "vgg16", "unstructured"), 0.95, "FlyingBird", 0.7522, 0.4447),
        (("cifar10", "resnet18", "filter"), 0.5, "TwinRep", 0.7990, 0.4558),
        (("svhn", "vgg16", "unstructured"), 0.99, "FlyingBird", 0.9003, 0.4880),
    ],
)
def test_the_best_of_a_board_is_as_published(
    board: tuple[str, str, str], sparsity: float, method: str, clean: float, robust: float
) -> None:
    rows = [
        row
        for row in references.reference("piras2024").rows
        if (row.data, row.model, row.structure) == board and row.sparsity == sparsity
    ]
    best = max(rows, key=lambda row: row.robust_accuracy)
    assert (best.method, best.clean_accuracy, best.robust_accuracy) == (method, clean, robust)
    assert best.robust_accuracy_low == pytest.approx(robust - 0.0098, abs=5e-4)


def test_an_unknown_reference_is_answered_with_those_known() -> None:
    with pytest.raises(SpecError, match="unknown reference 'piras2025'; known: piras2024; did you mean 'piras2024'"):
        references.reference("piras2025")
