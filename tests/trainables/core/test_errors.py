"""Classes of failures, and the exit codes of commands."""

from __future__ import annotations

import errno
import json
import signal
from typing import Any

import numpy as np
import pyarrow
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
    TimedOut,
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
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            "oom",
        ),
        (RuntimeError("std::bad_alloc"), "oom"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "oom"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "oom"),
        (RuntimeError("cudaErrorMemoryAllocation"), "oom"),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"), "oom"),
        (pyarrow.ArrowMemoryError("malloc of size 64 failed"), "oom"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "oom"),
        (ExceptionGroup("two", [ValueError("one"), MemoryError()]), "oom"),
        (SpecError("the data say: out of memory"), "spec"),
        (RuntimeError("atol must be greater than or equal to zero, but got -nan"), "diverged"),
        (RuntimeError("probability tensor contains either `inf`, `nan` or element < 0"), "diverged"),
        (RuntimeError("Function 'MulBackward0' returned nan values in its 0th output."), "diverged"),
        (ValueError("cannot convert float NaN to integer"), "diverged"),
        (ValueError("array must not contain infs or NaNs"), "diverged"),
        (FloatingPointError("overflow"), "diverged"),
        (ValueError("no information on infants"), "bug"),
        (SpecError("the file contains nan"), "spec"),
    ],
)
def test_a_failure_is_recorded_under_the_class_of_its_cause(error: BaseException, name: str) -> None:
    assert failure_class(error) == name


@pytest.mark.parametrize("explicit", [True, False])
def test_memory_that_ran_out_is_the_cause_of_what_was_raised_from_it(explicit: bool) -> None:
    def fail() -> None:
        try:
            np.empty(2**59, dtype=np.uint8)
        except MemoryError as error:
            if explicit:
                raise StorageError("cannot read the weights") from error
            raise ValueError("no batch")  # noqa: B904

    with pytest.raises((StorageError, ValueError)) as raised:
        fail()
    assert failure_class(raised.value) == "oom"
    raised.value.__cause__ = raised.value.__context__ = None
    assert failure_class(raised.value) == ("storage" if explicit else "bug")


@pytest.mark.parametrize("broken", [torch.linalg.svdvals, lambda m: torch.multinomial(m, 1)])
def test_what_torch_raises_for_numbers_that_are_not_finite_is_divergence(broken: Any) -> None:
    with pytest.raises(RuntimeError) as raised:
        broken(torch.full((3, 3), float("nan")))
    assert failure_class(raised.value) == "diverged"


def test_a_time_limit_is_the_cause_of_what_was_raised_from_it() -> None:
    error = SpecError("the plug-in cannot be imported")
    error.__cause__ = TimedOut("no progress for 3 s")
    assert failure_class(error) == "timeout"


def test_what_torch_raises_where_a_cpu_has_no_memory_is_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60)
    assert failure_class(raised.value) == "oom"


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
