from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import nn

from trainables.core.errors import StageDamaged
from trainables.store import paths
from trainables.store.checksum import sealed
from trainables.store.stages import Stages
from trainables.store.state import State, Tensors, pack, unpack
from trainables.store.storage import Storage

KEY = "ab" * 32


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


@pytest.fixture
def stages(storage: Storage) -> Stages:
    return Stages(storage)


def _state(value: float = 1.0) -> State:
    state = State.of(nn.Sequential(nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2)))
    return State({n: torch.full_like(p, value) for n, p in state.params.items()}, state.buffers, state.masks)


def _same(a: State, b: State) -> bool:
    pairs: list[tuple[Tensors, Tensors]] = [(a.params, b.params), (a.buffers, b.buffers), (a.masks, b.masks)]
    return all(
        x.keys() == y.keys() and all(torch.equal(x[n], y[n]) and x[n].dtype == y[n].dtype for n in x) for x, y in pairs
    )


def _save(stages: Stages, value: float = 1.0, **snapshots: State) -> None:
    kept = {int(name[1:]): state for name, state in snapshots.items()}
    stages.save(KEY, _state(value), epochs=3, seconds=1.5, study="s", trial=7, snapshots=kept)


def test_a_stage_comes_back_as_it_was_with_its_snapshots(stages: Stages) -> None:
    assert stages.find(KEY) is None
    assert stages.load(KEY) is None
    _save(stages, 1.0, e2=_state(2.0))
    found = stages.find(KEY, [2])
    assert found is not None
    assert (found.epochs, found.trial) == (3, 7)
    stored, snapshot = stages.load(KEY), stages.load(KEY, 2)
    assert stored is not None
    assert snapshot is not None
    assert _same(stored, _state(1.0))
    assert _same(snapshot, _state(2.0))
    assert stages.find(KEY, [2, 5]) is None
    assert stages.load(KEY, 5) is None


def test_saving_again_with_another_snapshot_keeps_the_first(stages: Stages) -> None:
    _save(stages, e2=_state(2.0))
    _save(stages, e5=_state(5.0))
    assert stages.find(KEY, [2, 5]) is not None


def test_a_damaged_state_is_not_handed_out(stages: Stages, storage: Storage) -> None:
    _save(stages)
    path = f"{paths.stage(KEY)}/{paths.STATE}"
    content = bytearray(storage.read(path))
    content[-1] ^= 1
    storage.write(path, bytes(content))
    assert stages.load(KEY) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"epochs": 1}', b'{"__class__": "os.system"}'])
def test_a_damaged_description_is_no_stage(stages: Stages, storage: Storage, content: bytes) -> None:
    _save(stages)
    storage.write(f"{paths.stage(KEY)}/{paths.STAGE}", content)
    assert stages.find(KEY) is None
    assert stages.load(KEY) is None


def test_progress_is_the_newest_readable_and_ends_with_the_stage(stages: Stages, storage: Storage) -> None:
    assert stages.load_progress(KEY) is None
    for epoch in (1, 2):
        stages.save_progress(KEY, epoch, {"params": {"w": torch.tensor([float(epoch)])}}, {1: _state(1.0)})
    folder = paths.stage(KEY)
    assert storage.names(folder) == ["progress-000002.safetensors"]
    storage.write(f"{folder}/progress-000003.safetensors", b"torn")
    progress = stages.load_progress(KEY)
    assert progress is not None
    epoch, checkpoint, snapshots = progress
    assert epoch == 2
    assert checkpoint.keys() == {"params"}
    assert checkpoint["params"]["w"].item() == 2
    assert _same(snapshots[1], _state(1.0))
    _save(stages)
    assert not [name for name in storage.names(folder) if name.startswith("progress")]


def test_tensors_that_share_memory_are_stored_each(stages: Stages) -> None:
    state = _state(3.0)
    stages.save_progress(KEY, 4, {"params": state.params, "averages": state.params}, {1: state, 3: state})
    progress = stages.load_progress(KEY)
    assert progress is not None
    _, checkpoint, snapshots = progress
    assert checkpoint.keys() == {"params", "averages"}
    assert _same(snapshots[1], state)
    assert _same(snapshots[3], state)


def test_nothing_below_a_stage_is_a_pickle(stages: Stages, storage: Storage) -> None:
    _save(stages, e2=_state())
    for name in storage.names(paths.stage(KEY)):
        content = storage.read(f"{paths.stage(KEY)}/{name}")
        assert name.endswith((".json", ".safetensors"))
        if name.endswith(".json"):
            json.loads(content)
        assert not content.startswith((b"\x80", b"PK"))


def test_tensors_come_back_in_the_order_in_which_they_were_written() -> None:
    names = [f"net.{number}.weight" for number in (9, 1, 10, 4, 2, 0, 7)]
    group = {name: torch.zeros(2) for name in names}
    assert list(unpack(pack({"masks": group, "params": group}))["masks"]) == names
    older = save({f"masks/{name}": t for name, t in group.items()})
    assert set(unpack(older)["masks"]) == set(names)


def test_groups_of_tensors_have_their_names_on_disk(stages: Stages, storage: Storage) -> None:
    """As in stages of released versions."""
    one = {"a": torch.ones(1)}
    state = State(one, one, {"a": torch.ones(1, dtype=torch.bool)}, extras=one, history=one)
    stages.save(KEY, state, epochs=0, seconds=0.0, study="study", trial=0)
    groups = unpack(storage.read(f"{paths.stage(KEY)}/{paths.STATE}"))
    assert list(groups) == ["params", "buffers", "masks", "latents", "history"]
    found = stages.load(KEY)
    assert found is not None
    assert torch.equal(found.extras["a"], one["a"])


FORGED = {
    "garbage": b"\0" * 400,
    "no group": save({"w": torch.ones(2)}),
    "an order without end": save({"params/w": torch.ones(2)}, {"order": "[" * 100_000}),
    "an order of other tensors": save({"params/w": torch.ones(2)}, {"order": '["params/v"]'}),
    "an order of numbers": save({"params/w": torch.ones(2)}, {"order": "[1]"}),
    "a mask of nothing": save({"params/w": torch.ones(2), "masks/v": torch.ones(2, dtype=torch.bool)}),
    "a mask of numbers": save({"params/w": torch.ones(2), "masks/w": torch.ones(2)}),
}


@pytest.mark.parametrize("content", FORGED.values(), ids=list(FORGED))
def test_a_forged_state_with_a_right_description_is_named_by_its_file(
    stages: Stages, storage: Storage, content: bytes
) -> None:
    _save(stages)
    path = f"{paths.stage(KEY)}/{paths.STAGE}"
    fields = json.loads(storage.read(path))
    del fields["format"], fields["checksum"]
    fields["files"][paths.STATE] = hashlib.sha256(content).hexdigest()
    storage.write(path, sealed(json.dumps(fields), path))
    storage.write(f"{paths.stage(KEY)}/{paths.STATE}", content)
    with pytest.raises(StageDamaged, match=f"{KEY}/{paths.STATE}: "):
        stages.read(KEY)
    assert stages.load(KEY) is None


def test_a_description_without_its_checksum_is_no_older_one(stages: Stages, storage: Storage) -> None:
    _save(stages)
    path = f"{paths.stage(KEY)}/{paths.STAGE}"
    fields = json.loads(storage.read(path))
    del fields["format"], fields["checksum"]
    storage.write(path, json.dumps(fields).encode())
    with pytest.raises(StageDamaged, match="checksum is missing"):
        stages.read(KEY)
    assert stages.find(KEY) is None


def test_a_stage_that_is_extended_while_it_is_copied_is_copied_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Storage(str(tmp_path))
    theirs, ours = Stages(root.child("theirs"), root), Stages(root.child("ours"), root)
    _save(theirs)
    read = Storage.read

    def extended(self: Storage, path: str) -> bytes:
        content = read(self, path)
        if path.endswith(paths.STATE):
            monkeypatch.undo()
            _save(theirs, e2=_state(2.0))
        return content

    monkeypatch.setattr(Storage, "read", extended)
    assert ours.find_anywhere(KEY) is not None
    assert theirs.find(KEY, [2]) is not None
    assert ours.find(KEY, [2]) is None
    stored = ours.load(KEY)
    assert stored is not None
    assert _same(stored, _state(1.0))
    assert ours.find_anywhere(KEY, [2]) is not None
    assert ours.load(KEY, 2) is not None
