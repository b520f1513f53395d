"""``accelerate launch`` for the ranks of one run: ``python -m engine.jobs.launcher LEAD RUN_DIR``.

The same as the command, with three things that it has no option for: it ends with the lead that
started it, no port is opened to find each other on one machine, and the exit codes of ranks that
failed are kept.
"""

import argparse
import json
import logging
import os
import signal
import sys
from pathlib import Path

from engine.jobs.folder import RunFolder
from engine.jobs.processes import die_with_parent
from engine.jobs.ranks import RankFiles

__all__ = ["main"]

LAUNCHER = "TUNEBENCH_LAUNCHER"
"""Environment variable that tells the ranks whose children they are."""


def main() -> int:
    """Exit status 0 when every rank ended with 0, else 1."""
    parser = argparse.ArgumentParser(prog="engine.jobs.launcher", description=__doc__)
    parser.add_argument("lead", type=int, help="process id of the parent")
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--processes", type=int, required=True)
    parser.add_argument("--rank", required=True, help="module that is a rank")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help="more arguments of the ranks")
    args = parser.parse_args()
    die_with_parent(args.lead)
    # A signal to the whole group means "stop": the lead and the first rank obey it. torchrun would
    # make "kill the ranks after 30 s" of it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP, signal.SIGINT})
    os.environ[LAUNCHER] = str(os.getpid())
    return launch(RankFiles(RunFolder(args.run_dir)), args)


def launch(files: RankFiles, args: argparse.Namespace) -> int:
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    # What torchrun says about a rank that failed, a page of it, is one line of the lead's.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    # A file of our own: the user's default_config.yaml may ask for anything.
    config = files.path / "accelerate.json"
    config.write_text(
        json.dumps(
            {
                "compute_environment": "LOCAL_MACHINE",
                "distributed_type": "MULTI_GPU",  # also for CPUs: "--cpu" starts one process
                "num_processes": args.processes,
                "num_machines": 1,
                "machine_rank": 0,
                "gpu_ids": "all",
                "mixed_precision": "no",  # the trainer's own setting decides
                "use_cpu": False,
                "debug": False,
            }
        ),
        encoding="utf-8",
    )
    words = ["--config_file", str(config), "--multi_gpu", "--main_process_port", "0"]
    words += ["--num_processes", str(args.processes), "--num_machines", "1"]
    words += ["--mixed_precision", "no", "--dynamo_backend", "no"]
    words += ["--num_cpu_threads_per_process", os.environ["OMP_NUM_THREADS"]]
    words += ["--rdzv_backend", "c10d", "--rdzv_conf", "store_type=file"]
    words += ["--log_dir", str(files.path / "elastic"), "--module", args.rank, str(args.run_dir)]
    words += args.rest
    parsed = launch_command_parser().parse_args(words)
    # All ranks are on this machine: torchrun's own meeting point is a file too, and its name for
    # this machine the loopback address. TCPStore listens on every interface.
    parsed.rdzv_endpoint = str(files.path / "launcher-store")
    parsed.local_addr = "127.0.0.1"
    try:
        launch_command(parsed)
    except ChildFailedError as error:
        codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
        files.failures.write_text(json.dumps(codes), encoding="utf-8")
        return 1
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
