"""The adversarial pruning benchmark: its four leaderboards as they stood on 5 September 2024."""

from __future__ import annotations

from pathlib import Path

from search.results.references.base import Reference

PIRAS2024 = Reference(
    name="piras2024",
    title="adversarial pruning benchmark",
    citation="G. Piras, M. Pintor, A. Demontis, B. Biggio, G. Giacinto, F. Roli: Adversarial Pruning: A Survey and "
    "Benchmark of Pruning Methods for Adversarial Robustness, arXiv:2409.01249, 2024",
    url="https://github.com/pralab/AdversarialPruningBenchmark",
    titles={"cifar10": "CIFAR-10", "svhn": "SVHN", "resnet18": "ResNet-18", "vgg16": "VGG-16"},
    attack="AutoAttack",
    norm="linf",
    eps=0.031,
    eps_text="0.031",
    # 8/255 is 0.0314.
    tolerance=5e-4,
    split="test",
    examples=10000,
    remarks=(
        "AutoAttack standard on the first 10,000 test images, one network per row",
        "sparsity is the one each method states; layers counted differ",
    ),
    table=Path(__file__).with_suffix(".csv"),
)
