"""Data sets: specs that read files, and the tensors a trial trains on."""

from __future__ import annotations

from trainables.core.registry import Registry
from trainables.data.base import Data
from trainables.data.cifar import Cifar10, Cifar100
from trainables.data.digits import Digits
from trainables.data.idx import Idx
from trainables.data.image_folder import ImageFolder
from trainables.data.mnist import FashionMnist, Mnist
from trainables.data.parquet import Parquet
from trainables.data.svhn import Svhn

DATASETS: Registry[Data] = Registry(
    "data set",
    Data,
    {
        "digits": Digits,
        "mnist": Mnist,
        "fashion_mnist": FashionMnist,
        "cifar10": Cifar10,
        "cifar100": Cifar100,
        "svhn": Svhn,
        "parquet": Parquet,
        "idx": Idx,
        "image_folder": ImageFolder,
    },
)
