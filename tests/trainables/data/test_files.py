from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import URLError

import pytest

from tests.trainables.data.made import GREY, LAYOUTS, made, write, write_idx, write_parquet
from trainables.core.errors import DataError, failure_class
from trainables.data import DATASETS
from trainables.data.files import FileData, Layout, MissingData, Part
from trainables.data.idx import Idx, IdxLayout
from trainables.data.mnist import FashionMnist, Mnist


def test_default_root_is_below_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write("mnist-idx", tmp_path / "data" / "mnist")
    found = Mnist().located()
    assert found.root == str(tmp_path / "data" / "mnist")
    monkeypatch.chdir("/")
    assert len(found.read_training()[1]) == 60
    with pytest.raises(MissingData):
        Mnist().read_training()


def test_environment_names_the_folder_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBUSTSEARCH_DATA", str(tmp_path))
    write("mnist-torchvision", tmp_path / "mnist")
    assert len(Mnist().read_training()[1]) == 60
    with pytest.raises(MissingData, match="cifar10"):
        DATASETS["cifar10"]().training_files()


def test_known_place_comes_after_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBUSTSEARCH_DATA", str(tmp_path))
    places = FashionMnist().roots()
    assert places == (tmp_path / "fashion_mnist", Path("/usr/share/datasets/fashion-mnist"))
    assert FashionMnist(root=str(tmp_path)).roots() == (tmp_path,)
    write("fashion-idx", tmp_path / "fashion_mnist")
    assert FashionMnist().located().root == str(tmp_path / "fashion_mnist")


def test_message_names_every_layout(tmp_path: Path) -> None:
    with pytest.raises(MissingData) as raised:
        Mnist(root=str(tmp_path)).training_files()
    message = str(raised.value)
    assert failure_class(raised.value) == "data"
    for name in ("MNIST/raw/train-images-idx3-ubyte[.gz]", "train-labels-idx1-ubyte[.gz]", "train*.parquet"):
        assert name in message
    with pytest.raises(MissingData, match="t10k-images"):
        Mnist(root=str(tmp_path)).find("test")
    with pytest.raises(MissingData) as raised:
        Idx(root=str(tmp_path), download=True).training_files()
    assert "download" not in str(raised.value)


@pytest.mark.parametrize("kind", ["mnist", "cifar10", "svhn", "parquet", "image_folder"])
def test_an_unreadable_root_is_refused(kind: str) -> None:
    with pytest.raises(DataError, match=r"cannot look for data in x+: File name too long"):
        DATASETS[kind](root="x" * 300).read_training()


def test_half_a_layout_is_missing(tmp_path: Path) -> None:
    write("cifar10-torchvision", tmp_path)
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").unlink()
    with pytest.raises(MissingData, match="data_batch_3"):
        DATASETS["cifar10"](root=str(tmp_path)).read_training()


def test_two_parquet_folders_are_ambiguous(tmp_path: Path) -> None:
    for folder in ("full", "small"):
        write_parquet(tmp_path / folder, "train", made(20, GREY, 0), "image", "label")
    with pytest.raises(DataError, match=r"several folders .*full.*small"):
        DATASETS["parquet"](root=str(tmp_path)).read_training()


class Fetched(FileData):
    """Idx files that a function of the test provides."""

    kind: str = "fetched"

    def layouts(self) -> tuple[Layout, ...]:
        return (IdxLayout(),)

    def fetcher(self) -> Callable[[Path, Part], None]:
        return _slowly


def _slowly(root: Path, part: Part) -> None:
    with (root / "fetches").open("a") as log:
        log.write("x")
    time.sleep(0.2)
    write_idx(root, "train", made(20, GREY, 0), packed=False)


def _read(root: str) -> None:
    Fetched(root=root, download=True).read_training()


def test_download_only_where_asked(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="download: true"):
        Fetched(root=str(tmp_path)).read_training()
    assert not (tmp_path / "fetches").exists()
    _read(str(tmp_path))
    _read(str(tmp_path))
    assert (tmp_path / "fetches").read_text() == "x"


def test_of_several_workers_one_downloads(tmp_path: Path) -> None:
    """Threads stand for processes: each opens the lock file for itself, and that is what is locked."""
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(_read, [str(tmp_path)] * 3))
    assert (tmp_path / "fetches").read_text() == "x"


@pytest.mark.parametrize("kind", ["mnist", "fashion_mnist", "cifar10", "cifar100", "svhn"])
def test_failed_download_says_so(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision is asked for the right thing, and a network that is not there is no traceback."""
    import torchvision.datasets.utils as fetching

    asked = []

    def refuse(url: str, *_: object, **__: object) -> None:
        asked.append(url)
        raise URLError("no network")

    monkeypatch.setattr(fetching, "_urlretrieve", refuse)
    monkeypatch.setattr(fetching, "_get_redirect_url", lambda url, **_: url)
    with pytest.raises(DataError, match=f"{kind}: the download to .* failed: "):
        DATASETS[kind](root=str(tmp_path), download=True).read_training()
    stem = {"fashion_mnist": "fashion", "cifar10": "cifar-10", "cifar100": "cifar-100", "svhn": "train_32x32"}
    assert any(stem.get(kind, kind) in url for url in asked)


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "image_folder"])
def test_torn_files_are_refused_by_name(layout: str, tmp_path: Path) -> None:
    kind, _, _ = write(layout, tmp_path)
    spec = DATASETS[kind](root=str(tmp_path))
    victim = spec.training_files()[0]
    victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])
    with pytest.raises(DataError) as raised:
        spec.read_training()
    assert str(victim.parent) in str(raised.value)
