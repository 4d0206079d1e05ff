"""Classes of failures, and the exit codes of commands."""

from __future__ import annotations

import json
import signal

import pytest
import torch

from trainables.core.errors import (
    DataError,
    Diverged,
    ExitCode,
    RobustsearchError,
    SpecError,
    StageLost,
    StorageError,
    failure_class,
)


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (MemoryError(), "oom"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "oom"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: Out of memory"), "oom"),
        (Diverged("epoch 3"), "diverged"),
        (DataError("no files"), "data"),
        (StorageError("full"), "storage"),
        (StageLost("damaged"), "storage"),
        (SpecError("wrong"), "spec"),
        (RobustsearchError("of no class"), "bug"),
        (ZeroDivisionError("oops"), "bug"),
    ],
)
def test_a_failure_is_recorded_under_the_class_of_its_cause(error: BaseException, name: str) -> None:
    assert failure_class(error) == name


def test_every_error_has_an_exit_code() -> None:
    codes = {
        kind.__name__: kind.exit_code for kind in (RobustsearchError, SpecError, DataError, StorageError, StageLost)
    }
    assert codes == {"RobustsearchError": 2, "SpecError": 2, "DataError": 2, "StorageError": 5, "StageLost": 5}


def test_exit_codes_stay_as_the_manual_lists_them() -> None:
    assert {code.name: int(code) for code in ExitCode} == {
        "DONE": 0,
        "BUG": 1,
        "BAD_INPUT": 2,
        "NO_FEASIBLE_POINT": 3,
        "TRIALS_FAILED": 4,
        "STORAGE": 5,
        "CLUSTER": 6,
        "HANGUP": 129,
        "INTERRUPTED": 130,
        "PIPE_CLOSED": 141,
        "TERMINATED": 143,
    }
    assert json.dumps(ExitCode.CLUSTER) == "6"


def test_signals_have_the_shells_codes() -> None:
    signals = (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGTERM)
    assert [ExitCode.of_signal(number) for number in signals] == [129, 130, 141, 143]
    with pytest.raises(ValueError, match="137"):
        ExitCode.of_signal(signal.SIGKILL)
