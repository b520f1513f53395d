"""What the engine itself costs: a run of tunebench against a bare script with the same settings.

    python tests/gpu/cost.py --out results/ --model FOLDER                    on a GPU
    python tests/gpu/cost.py --out results/ --model FOLDER --device cpu --backends transformers

The bare script is TRL's ``SFTTrainer`` as its documentation has it, on the very rows that the run
trained on, tokenised by the same formatter; it logs every 10 steps and keeps no journal. Both in
processes of their own, one after the other, ``--times`` times each. Compares the median step after
the warm-up. Writes ``cost.json``.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from engine.home import open_home  # noqa: E402
from engine.jobs import launch  # noqa: E402
from engine.jobs.journal import read_all  # noqa: E402
from engine.recipe import Recipe, load_recipe, read_recipe  # noqa: E402

WARM_UP = 10


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--home", type=Path, default=Path("/tmp/tunebench-cost"))
    parser.add_argument("--model", required=True)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--backends", default="transformers,unsloth")
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--bare", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.bare:
        print(json.dumps(bare(read_recipe(Path(args.bare[0])), Path(args.bare[1]))))
        return 0
    args.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"command": " ".join(sys.argv)}
    for backend in args.backends.split(","):
        ours, theirs = [], []
        for number in range(args.times):
            recipe = recipe_of(args, backend)
            home = open_home(args.home)
            folder = launch.create_run(home, recipe, f"{backend}-{number}")
            launch.launch(folder)
            assert launch.wait_until_dead(folder, 900)
            events = list(read_all(folder.journal))
            if events[-2].get("state") != "finished":
                raise SystemExit(f"{folder.id}: {[e for e in events if e['type'] == 'error']}")
            ends = [e["t"] for e in events if e["type"] == "metrics"]
            ours.append(steps(ends))
            command = [sys.executable, __file__, "--out", str(args.out), "--model", args.model]
            done = subprocess.run(
                [*command, "--bare", str(folder.recipe_file), str(args.home)],
                capture_output=True,
                text=True,
            )
            if done.returncode:
                raise SystemExit(done.stderr[-3000:])
            theirs.append(json.loads(done.stdout.splitlines()[-1]))
        results[backend] = {
            "tunebench_s": ours,
            "bare_s": theirs,
            "throughput": ratio(theirs, ours, 0),
            "throughput_of_fast_steps": ratio(theirs, ours, 1),
        }
        (args.out / "cost.json").write_text(json.dumps(results, indent=1))
        print(backend, json.dumps(results[backend]), flush=True)
    return 0


def recipe_of(args: argparse.Namespace, backend: str) -> Recipe:
    return load_recipe(
        "demo",
        [
            f"model.model_name_or_path={args.model}",
            *(f"model.backend={backend}", f"model.device={args.device}"),
            *("format.template=alpaca", f"train.max_steps={args.steps}"),
            *(f"train.eval_steps={args.steps}", f"train.save_steps={args.steps}"),
            *("evaluate.before=false", "evaluate.sample_rows=0", "evaluate.validation_rows=16"),
            *("evaluate.test_rows=16", "lora.lora_dropout=0", "train.max_length=128"),
            *args.settings,
        ],
    )


def steps(ends: list[float]) -> tuple[float, float]:
    """Seconds a step, warmed up: the median, and the quickest quarter's end, which tells more where
    others use the machine meanwhile."""
    between = [after - before for before, after in itertools.pairwise(ends)]
    quarters = statistics.quantiles(between[WARM_UP:])
    return quarters[1], quarters[0]


def ratio(theirs: list[Any], ours: list[Any], which: int) -> float:
    bare_, mine = (statistics.median(each[which] for each in one) for one in (theirs, ours))
    return bare_ / mine


def bare(recipe: Recipe, home: Path) -> tuple[float, float]:
    """Seconds a step of a script without tunebench's trainer; model, rows and settings the same."""
    from engine.data.prepare import prepare
    from engine.data.tokens import Formatter
    from engine.train.backend import choose_backend
    from engine.train.environment import set_environment

    home_ = open_home(home)
    set_environment(home_, recipe.model.model_name_or_path)
    backend = choose_backend(recipe)
    backend.import_libraries()
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from engine.train.optim import resolve_optim
    from engine.train.rows import encode

    loaded = backend.load(recipe)
    dataset = prepare(home_, recipe)
    rows = encode(dataset.split("train"), Formatter.of(recipe), completion_only_loss=True)
    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            ends.append(time.time())

    train, cpu = recipe.train, loaded.device == "cpu"
    trainer = SFTTrainer(
        model=loaded.model,
        args=SFTConfig(
            output_dir=str(home / "bare"),
            max_length=train.max_length,
            per_device_train_batch_size=train.per_device_train_batch_size,
            max_steps=train.max_steps,
            learning_rate=train.learning_rate,
            optim=resolve_optim(recipe, loaded.device),
            seed=train.seed,
            logging_steps=10,
            save_strategy="no",
            report_to="none",
            use_cpu=cpu,
            bf16=loaded.dtype == "bfloat16",
            pad_to_multiple_of=loaded.pad_to_multiple_of,
            padding_free=False,
            gradient_checkpointing=train.gradient_checkpointing,
            completion_only_loss=False,
            dataset_kwargs={"skip_prepare_dataset": True},
            loss_type=loaded.loss_type,
            disable_tqdm=True,
            dataloader_pin_memory=not cpu,
        ),
        train_dataset=rows.dataset,
        processing_class=loaded.tokenizer,
        callbacks=[Clock()],
    )
    trainer.train()
    return steps(ends)


if __name__ == "__main__":
    sys.exit(main())
