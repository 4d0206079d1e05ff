"""States of networks: counts, masks, hashes, and their form on disk."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainables.store.state import State, pack, prunable, scales, unpack


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.BatchNorm2d(3, affine=False), nn.Flatten(), nn.Linear(12, 2)
    )


def pruned() -> State:
    """A state of which the first filter is pruned, with its bias."""
    state = State.of(network())
    masks = {**state.masks, "0.bias": torch.tensor([False, True, True])}
    masks["0.weight"][0] = False
    return State(state.params, state.buffers, masks).masked()


def test_convolution_and_linear_weights_are_prunable_in_order_of_definition() -> None:
    assert prunable(network()) == ("0.weight", "4.weight")
    assert scales(network()) == ("1.weight",)
    assert State.of(network()).prunable() == ("0.weight", "4.weight")


def test_pruned_weights_are_zero_and_masks_of_vectors_are_not_counted() -> None:
    state = pruned()
    assert not state.params["0.weight"][0].any()
    assert state.params["0.bias"][0] == 0
    assert (state.nonzero(), state.size()) == (18 + 24, 27 + 24)
    assert state.mask_sparsity() == pytest.approx(9 / 51)
    assert State({}, {}).mask_sparsity() == 0


def test_a_state_is_a_copy_in_both_directions() -> None:
    model = network()
    state = State.of(model)
    other = state.into(network())
    with torch.no_grad():
        model[0].weight.zero_()  # type: ignore[index]
        other[0].weight.zero_()  # type: ignore[index]
    assert state.params["0.weight"].any()


def test_the_hash_is_of_values_and_extras_whatever_their_memory_format() -> None:
    state = State.of(network())
    params = {
        name: p.contiguous(memory_format=torch.channels_last) if p.dim() == 4 else p for name, p in state.params.items()
    }
    assert State(params, state.buffers, state.masks).weights_sha256() == state.weights_sha256()
    assert State(state.params, state.buffers).weights_sha256() == state.weights_sha256(), "masks are not weights"
    noisy = State(state.params, state.buffers, extras={"noise/0.weight": torch.ones(1)})
    assert noisy.weights_sha256() != state.weights_sha256()
    changed = {**state.params, "0.bias": state.params["0.bias"] + 1}
    assert State(changed, state.buffers).weights_sha256() != state.weights_sha256()


def test_packed_groups_keep_their_order_and_may_share_memory() -> None:
    mask = torch.tensor([True, False])
    groups = {"params": {"z": torch.rand(3), "a": torch.rand(2, 2)}, "masks": {"z": mask, "b": mask}, "empty": {}}
    found = unpack(pack(groups))
    assert [(group, list(tensors)) for group, tensors in found.items()] == [
        ("params", ["z", "a"]),
        ("masks", ["z", "b"]),
    ]
    assert all(torch.equal(found[group][name], tensor) for group in found for name, tensor in groups[group].items())


def test_a_file_without_an_order_is_read_by_name() -> None:
    from safetensors.torch import save

    found = unpack(save({"params/z": torch.ones(1), "params/a": torch.zeros(1)}))
    assert found["params"].keys() == {"z", "a"}
