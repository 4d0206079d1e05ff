"""Which files of a folder are read, and what is said of the others."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder as TorchvisionFolder

from tests.trainables.data.made import COLOUR, made, png, write_classes
from trainables.core.errors import DataError
from trainables.data.heldout import load_test
from trainables.data.image_folder import ImageFolder
from trainables.data.tensors import TrainingData, load


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Write 30 images of 3 classes."""
    write_classes(tmp_path / "data" / "train", made(30, COLOUR, 1, classes=3))
    return tmp_path / "data"


def loaded(root: Path, **fields: object) -> TrainingData:
    return load(ImageFolder(root=str(root), **{"validation": 6, **fields}))  # type: ignore[arg-type]


def size(data: TrainingData) -> int:
    return len(data.train) + len(data.validation)


def another(path: Path, seed: int = 9) -> None:
    """Write an image that is in no other file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(made(1, COLOUR, seed, classes=1)[0][0]))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("class_0/.ipynb_checkpoints/a-checkpoint.png", "not used, hidden"),
        ("class_0/._0000.png", "not used, hidden"),
        ("class_0/below/.x/y/a.png", "not used, hidden"),
        (".cache/a.png", "not used, hidden"),
        ("__MACOSX/class_0/a.png", "not used, hidden"),
        ("class_0/Thumbs.db", "not used, hidden"),
        ("@eaDir/class_0/a.png", "not used, hidden"),
        ("$RECYCLE.BIN/a.png", "not used, hidden"),
        ("class_0/Desktop.ini", "not used, hidden"),
        ("class_1/a.gif", "not used, as .gif is not read"),
        ("class_1/a.png.part", "not used, no image by the extension"),
        ("loose.png", "not used, in no class folder"),
    ],
)
def test_what_is_not_used_is_counted_and_named(name: str, words: str, root: Path) -> None:
    another(root / "train" / name)
    data = loaded(root)
    assert size(data) == 30
    assert data.notes == (f"1 file {words}: train/{name}",)
    assert loaded(root, split_seed=1).notes == data.notes, "from the cache too"
    assert data.class_names == ("class_0", "class_1", "class_2")


def test_notes_name_the_first_files(root: Path) -> None:
    for number in range(5):
        another(root / "train" / "class_0" / f"{number}.gif")
    assert loaded(root).notes[0].startswith("5 files not used, as .gif is not read: train/class_0/0.gif, ")
    assert loaded(root).notes[0].endswith("train/class_0/2.gif, ...")


def test_hidden_links_are_not_followed(root: Path) -> None:
    another(root / "elsewhere" / "a.png")
    for place in (root / "train", root / "train" / "class_0"):
        (place / ".all").symlink_to(root / "elsewhere")
    data = loaded(root)
    assert size(data) == 30
    assert data.notes == ("2 files not used, hidden: train/class_0/.all, train/.all",)


def test_links_are_followed_once_and_broken_ones_are_named(root: Path) -> None:
    train = root / "train"
    another(root / "elsewhere" / "deep" / "a.png")
    another(root / "b.TIF", seed=10)
    (train / "class_0" / "folder").symlink_to(root / "elsewhere")
    (train / "class_1" / "file.tif").symlink_to(root / "b.TIF")
    (train / "class_0" / "loop").symlink_to(train / "class_0")
    (train / "class_0" / "up").symlink_to(root)
    (train / "class_2" / "self.png").symlink_to("self.png")
    (train / "gone").symlink_to(root / "nowhere")
    os.mkfifo(train / "class_2" / "pipe.png")
    data = loaded(root)
    assert size(data) == 32
    assert data.notes == (
        "3 files not used, a broken link or no regular file: "
        "train/class_2/pipe.png, train/class_2/self.png, train/gone",
        "2 links not followed, to folders that are read already: train/class_0/loop, train/class_0/up",
    )


@pytest.mark.parametrize("extension", ["png", "PNG", "jpg", "JPEG", "bmp", "ppm", "pgm", "tif", "tiff", "webp"])
def test_extensions_are_those_of_torchvision(extension: str, root: Path) -> None:
    another(root / "train" / "class_2" / "below" / f"a.{extension}")
    theirs = TorchvisionFolder(str(root / "train"))
    files = ImageFolder(root=str(root)).training_files()
    assert sorted(path for path, _ in theirs.samples) == sorted(map(str, files))
    assert size(loaded(root)) == len(theirs) == 31
    assert tuple(theirs.classes) == loaded(root).class_names


def test_a_class_without_images_is_refused(root: Path) -> None:
    (root / "train" / "0_empty").mkdir()
    with pytest.raises(DataError, match=r"train/0_empty has no images .*; remove the folder"):
        ImageFolder(root=str(root)).training_files()
    another(root / "train" / "0_empty" / "a.gif")
    with pytest.raises(DataError, match=r"train/0_empty has no images .*, but a\.gif"):
        loaded(root)


def test_names_that_cannot_be_printed_are_escaped(root: Path) -> None:
    train = os.fsencode(root / "train")
    for number, name in enumerate(
        (b"bad\xff", "bi\u202edi".encode(), b"new\nline", "no\u200bwidth".encode(), "\U0001f431".encode())
    ):
        os.mkdir(train + b"/" + name)
        for at in range(9):
            another(Path(os.fsdecode(train + b"/" + name + b"/\xfe%d.png" % at)), seed=20 + 9 * number + at)
    data = loaded(root, validation=16)
    assert data.class_names[:2] == ("bad\\udcff", "bi\\u202edi")
    assert set(data.class_names[2:]) == {"class_0", "class_1", "class_2", "new\\nline", "no\\u200bwidth", "\U0001f431"}


def test_names_that_only_unicode_forms_tell_apart_are_refused(root: Path) -> None:
    for name in ("caf\u00e9", "cafe\u0301"):
        another(root / "train" / name / "a.png")
    with pytest.raises(DataError, match="two classes are named 'caf\u00e9'; rename or merge"):
        loaded(root)


def test_unreadable_folders_are_refused_by_name(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse(path: str | Path) -> object:
        if str(path).endswith("class_1"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"cannot look for data in .*train/class_1: Permission denied"):
        loaded(root)


def test_test_images_have_the_classes_of_training(root: Path) -> None:
    write_classes(root / "test", made(9, COLOUR, 2, classes=3))
    for path in (root / "test" / "class_0").iterdir():
        path.unlink()
    (root / "test" / "class_0").rmdir()
    spec = ImageFolder(root=str(root), validation=6)
    assert set(load_test(spec).y.tolist()) == {1, 2}, "numbered as in training"
    another(root / "test" / "class_9" / "a.png")
    with pytest.raises(DataError, match="'class_9' is a class of the test images only"):
        load_test(spec)


def test_test_images_have_the_size_of_training(root: Path) -> None:
    write_classes(root / "test", made(9, (3, 12, 32), 2, classes=3))
    with pytest.raises(DataError, match=r"the test images are 3x12x32 .*, the training images 3x32x32"):
        load_test(ImageFolder(root=str(root), validation=6))
    assert load_test(ImageFolder(root=str(root), validation=6, size=32)).x.shape == (9, 3, 32, 32)


def test_copies_on_both_sides_of_the_split_are_refused_by_name(root: Path) -> None:
    for path in sorted((root / "train").rglob("*.png")):
        path.with_name(f"copy-{path.name}").write_bytes(path.read_bytes())
    with pytest.raises(DataError, match=r"validation images equal an image that is trained on, such as .*/train/.*png"):
        loaded(root)
    data = loaded(root, duplicates="allow")
    assert size(data) == 60
    assert data.notes[-1].endswith("validation images equal an image that is trained on")


def test_equal_images_with_other_labels_are_counted(root: Path) -> None:
    first = sorted((root / "train" / "class_0").iterdir())[0]
    (root / "train" / "class_2" / "z.png").write_bytes(first.read_bytes())
    notes = loaded(root).notes
    assert notes[0] == "1 of 31 images equal one with another label: images 30 and 0"


def test_exif_orientation_is_ignored_as_by_torchvision(root: Path) -> None:
    image = Image.fromarray(made(1, COLOUR, 5, classes=1)[0][0].transpose(1, 2, 0))
    exif = Image.Exif()
    exif[0x0112] = 3
    path = root / "train" / "class_0" / "zz.png"
    image.save(path, exif=exif)
    spec = ImageFolder(root=str(root))
    read = spec.read_training()[0][spec.training_files().index(path)]
    theirs = TorchvisionFolder(str(root / "train")).loader(str(path))
    assert np.array_equal(read.transpose(1, 2, 0), np.asarray(theirs))
    assert np.array_equal(read.transpose(1, 2, 0), np.asarray(image))


def test_a_root_that_cannot_be_written_down_is_refused(root: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(root.parent) + b"/odd\xff"))
    root.rename(odd)
    with pytest.raises(DataError, match=r"odd\\udcff: a folder's name has characters that cannot be written"):
        ImageFolder(root=str(odd)).located()


def test_a_folder_without_test_images_has_nothing_to_confirm_on(root: Path) -> None:
    spec = ImageFolder(root=str(root), validation=6)
    with pytest.raises(DataError, match=r"(?s)no test files in .*<class>/ with images"):
        spec.check_test()
    write_classes(root / "test", made(6, COLOUR, 2, classes=3))
    spec.check_test()
    assert len(load_test(spec)) == 6
