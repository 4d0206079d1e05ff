"""The glue that `glue.py` measures us against, as a program of its own: Ray Tune with OptunaSearch.

Multivariate TPE that knows of running trials, actors that are reused, one Tune result per trial, no loggers, no
dashboard, and torch in the workers alone: the settings with which it is fastest. Every network that a trial measures is
appended to its worker's file in the folder, with the time, and saved.

    python benchmarks/glue_tune.py FOLDER        # with what glue.py has put there
"""

from __future__ import annotations

import json
import os
import sys
import time
import zlib
from pathlib import Path
from typing import Any

os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray
from optuna.distributions import json_to_distribution
from optuna.samplers import TPESampler
from ray import tune
from ray.tune.search.optuna import OptunaSearch


class Worker(tune.Trainable):
    """Run one trial in one step."""

    def setup(self, config: dict[str, Any]) -> None:
        import numpy as np
        import torch
        from glue_trial import Data, Setting

        torch.set_num_threads(1)
        self.folder = Path(config["folder"])
        about = json.loads((self.folder / "setting.json").read_text())
        about["setting"]["hidden"] = tuple(about["setting"]["hidden"])
        self.setting, self.seed = Setting(**about["setting"]), about["seed"]
        arrays = np.load(self.folder / "data.npz")
        tensors = {name: torch.from_numpy(arrays[name]) for name in ("x", "y", "held_x", "held_y")}
        self.data = Data(**tensors, mean=about["mean"], std=about["std"])
        self.params = config["params"]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.params = new_config["params"]
        return True

    def step(self) -> dict[str, Any]:
        import torch
        from glue_trial import Trial

        began, name = time.time(), self.trial_id
        trial = Trial(self.setting, self.data, self.params, seed=zlib.crc32(f"{self.seed} {self.params}".encode()))
        found: dict[str, Any] = {}
        with (self.folder / f"points-{os.getpid()}.jsonl").open("a") as log:
            for measure, found in enumerate(trial.run()):
                torch.save(found.pop("state"), self.folder / f"{name}-{measure}.pt")
                line = {"trial": name, "measure": measure, "began": began, "epochs": trial.epochs, **found}
                log.write(json.dumps(line) + "\n")
                log.flush()
        return {"robust": found["robust"], "sparsity": found["sparsity"], "done": True}


def main() -> None:
    """Search."""
    folder = Path(sys.argv[1])
    about = json.loads((folder / "setting.json").read_text())
    space = {f"params/{path}": json_to_distribution(text) for path, text in about["space"].items()}
    sampler = TPESampler(multivariate=True, group=True, constant_liar=True, seed=about["seed"])
    ray.init(num_cpus=about["workers"], include_dashboard=False, log_to_driver=False)
    results = tune.Tuner(
        tune.with_resources(Worker, {"cpu": 1}),
        param_space={"folder": str(folder)},
        tune_config=tune.TuneConfig(
            num_samples=about["trials"],
            max_concurrent_trials=about["workers"],
            search_alg=OptunaSearch(space, metric=["robust", "sparsity"], mode=["max", "max"], sampler=sampler),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            storage_path=str(folder / "tune"),
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    ).fit()
    ray.shutdown()
    if results.num_errors:
        raise SystemExit(f"{results.num_errors} trials failed: {results.errors[0]}")


if __name__ == "__main__":
    main()
