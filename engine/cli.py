"""The headless verbs: their arguments, and which function of ``engine.commands`` answers each.

Nothing heavy is imported here: ``--help`` and ``--version`` answer at once.
"""

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from engine import __version__
from engine.cli_evaluate import evaluate_arguments
from engine.cli_judging import prompts_parser, votes_parser
from engine.cli_runs import runs_parser
from engine.errors import UserError

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

__all__ = ["build_parser", "main"]


class _Parser(argparse.ArgumentParser):
    """Its messages repeat words of the command line, file names among them: outside text."""

    def _print_message(self, message: str, file: "SupportsWrite[str] | None" = None) -> None:
        if not message.replace("\n", "").isprintable():
            from engine.text import safe

            message = safe(message)
        super()._print_message(message, file)


def build_parser() -> _Parser:
    """The whole command line; ``args.run`` is ``module:function`` under ``engine.commands``."""
    common = _Parser(add_help=False)
    # SUPPRESS: a value given before the verb must not be reset by the verb's own default.
    common.add_argument(
        "--json",
        action="store_true",
        default=argparse.SUPPRESS,
        help="print one JSON document on stdout",
    )
    common.add_argument(
        "--home",
        metavar="DIR",
        default=argparse.SUPPRESS,
        help="home folder (default: $TUNEBENCH_HOME or .)",
    )
    settings = _Parser(add_help=False)
    settings.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="change one recipe value, e.g. train.learning_rate=1e-4; may be repeated",
    )

    parser = _Parser(
        prog="tunebench",
        description="Fine-tune language models from the terminal. Without a verb: the workbench.",
        epilog="'tunebench VERB --help' tells a verb's options; 'tunebench demo' is a quick tour.",
    )
    parser.add_argument("--version", action="version", version=f"tunebench {__version__}")
    parser.add_argument("--home", metavar="DIR", default=None, help="home folder")
    parser.set_defaults(json=False)
    parser.add_argument("--no-mouse", action="store_true", help="leave the mouse to the terminal")
    parser.add_argument(
        "--low-bandwidth",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="draw charts and logs every 5 s; default: when the link turns out to be slow",
    )
    parser.add_argument(
        "--light",
        action="store_true",
        default=os.environ.get("TUNEBENCH_COLOURS", "").lower() == "light",
        help="colours for a light terminal (or TUNEBENCH_COLOURS=light)",
    )
    parser.add_argument(
        "--notify",
        metavar="HOW",
        help="how the workbench tells the terminal that a run ended, stalled or went wrong: bell, "
        "osc9, osc777, several with commas (default: $TUNEBENCH_NOTIFY, or not at all)",
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB")

    def verb(name: str, run: str, help: str, *parents: _Parser) -> _Parser:
        sub = verbs.add_parser(name, help=help, description=help, parents=[common, *parents])
        sub.set_defaults(run=run)
        return sub

    sub = verb("demo", "demo:demo", "the whole way on the built-in catalogue", settings)
    sub.add_argument("--rows", type=int, default=20_000, metavar="N", help="catalogue lines")
    sub.add_argument("--seed", type=int, default=0, help="seed of the catalogue")

    sub = verb("clean", "data:clean", "clean, split and report a data source", settings)
    sub.add_argument(
        "source", metavar="SOURCE", help="file, folder, hub id org/name, -, or builtin:catalogue"
    )
    sub.add_argument("--recipe", metavar="R", help="take the rules from this recipe")
    sub.add_argument("--name", metavar="NAME", help="name of the cleaned dataset")
    sub.add_argument(
        "--dry-run", action="store_true", help="say how the rows will be read, write nothing"
    )

    sub = verb("preview", "preview:preview", "what the model will see of a row", settings)
    sub.add_argument("dataset", metavar="DATASET", help="name or folder of a cleaned dataset")
    sub.add_argument("--recipe", metavar="R", help="take model, format and length from this recipe")
    sub.add_argument("--split", default="train", choices=["train", "validation", "test"])
    what = sub.add_mutually_exclusive_group()
    what.add_argument("--row", type=int, default=0, metavar="N", help="which row (0 is the first)")
    what.add_argument("--line", type=int, metavar="N", help="the row of this line of the source")
    what.add_argument(
        "--pack", type=int, metavar="N", help="which packed sequence (0 is the first)"
    )
    what.add_argument("--stats", action="store_true", help="token lengths of the whole split")
    sub.add_argument(
        "--sample",
        type=int,
        default=0,
        metavar="N",
        help="with --stats: estimate by the first N rows (default: all)",
    )

    sub = verb("train", "train:train", "train a recipe and follow the run", settings)
    sub.add_argument("recipe", metavar="RECIPE", help="built-in recipe or TOML file")
    sub.add_argument("--name", metavar="NAME", help="name of the run (default: the recipe's)")
    sub.add_argument("--detach", action="store_true", help="start the run and return at once")
    sub.add_argument(
        "--dry-run",
        action="store_true",
        help="say how many steps, tokens, hours and bytes it will take, and what may go wrong",
    )
    sub.add_argument(
        "--probe",
        action=argparse.BooleanOptionalAction,
        help="with --dry-run: measure memory and speed by a few steps (default: on a GPU)",
    )
    sub.add_argument(
        "--find-batch-size",
        action="store_true",
        help="take the largest batch that fits, gradient accumulation making up the difference",
    )
    _turn(sub)
    sub.add_argument(
        "--sweep",
        action="append",
        default=[],
        metavar="KEY=V,V,...",
        help="a queued run for each value, e.g. lora.r=8,16; several: for each combination",
    )
    sub.add_argument("--yes", action="store_true", help="also more than 64 runs")

    for name, help in (
        ("stop", "end a run after its current step, with a checkpoint"),
        ("resume", "go on with a run from its last whole checkpoint"),
        ("tail", "follow a run's journal"),
    ):
        sub = verb(name, f"train:{name}", help, *([settings] if name == "resume" else []))
        words = "id, name or unique beginning" + ("" if name == "resume" else "; a sweep's name")
        sub.add_argument("ref", metavar="RUN", help=words)
        if name == "stop":
            sub.add_argument("--kill", action="store_true", help="at once, nothing saved")
        if name == "resume":
            sub.add_argument("--detach", action="store_true", help="return at once")
            sub.add_argument(
                "--suggested",
                action="store_true",
                help="with the recipe that its end suggested, e.g. after running out of memory",
            )
            sub.add_argument("--name", metavar="NAME", help="name of the run with other settings")
            sub.add_argument("--yes", action="store_true", help="do not ask about what changes")
            _turn(sub)

    sub = verb("generate", "generate:generate", "answer prompts with runs or models", settings)
    sub.add_argument(
        "refs",
        nargs="+",
        metavar="RUN|MODEL",
        help="several: side by side. RUN, RUN@best, RUN@last, RUN@STEP, a model's folder or hub "
        "id, a GGUF file, or a server: 'URL#MODEL' or 'URL#MODEL key=NAME' (a variable)",
    )
    sub.add_argument("--prompt", action="append", default=[], metavar="P", help="may be repeated")
    sub.add_argument(
        "--prompts",
        metavar="FILE",
        help="a prompt a line, JSON Lines (.jsonl), DATASET:SPLIT, or set:NAME (saved prompts)",
    )
    sub.add_argument(
        "--column", default="prompt", metavar="NAME", help="which one is the prompt (prompt)"
    )
    sub.add_argument(
        "--out", metavar="FILE", help="JSON Lines to append to; goes on where it was interrupted"
    )
    sub.add_argument("--base", action="store_true", help="the first run's base model beside it")
    sub.add_argument("--system", metavar="TEXT", help="system message before every prompt")
    sub.add_argument(
        "--stay",
        action="store_true",
        help="keep the models loaded for 10 more minutes, for the next command",
    )
    sub.add_argument(
        "--now", action="store_true", help="also on a GPU that a run of this home is training on"
    )

    help = "how good a run's answers are, or the predictions of a file"
    evaluate_arguments(verb("evaluate", "evaluate:evaluate", help, settings))

    sub = verb("export", "export:export", "take a run's result out of the home")
    sub.add_argument("ref", metavar="RUN")
    sub.add_argument("--to", required=True, choices=["adapter", "merged"], help="what to write")
    sub.add_argument("--out", required=True, metavar="DIR", help="folder to write; must not exist")

    runs_parser(verbs, common, settings, _turn)
    _queue_parser(verbs, common)
    votes_parser(verbs, common)
    prompts_parser(verbs, common)
    _bench_parser(verb("bench", "bench:bench", "measure this engine beside others here", settings))

    verb("reindex", "runs:reindex", "rebuild runs.db from the journals")
    sub = verb("doctor", "system:doctor", "what is installed, what works, what to do")
    sub.add_argument(
        "--full",
        action="store_true",
        help="all of the index, and against the journals",
    )
    sub.add_argument(
        "--repair", action="store_true", help="rebuild what is broken in the home's store first"
    )
    _recipes_parser(verbs, common, settings)
    return parser


class _Recipes(argparse._SubParsersAction):
    """``recipes import FILE``; any other first word names a recipe."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.choices = None  # type: ignore[assignment]  # or a recipe's name would be refused

    def __call__(
        self, parser: Any, namespace: Any, values: Any, option_string: str | None = None
    ) -> None:
        if values[0] not in self._name_parser_map:
            values = ["show", *values]
        super().__call__(parser, namespace, values, option_string)


def _recipes_parser(
    verbs: "argparse._SubParsersAction[_Parser]", common: _Parser, settings: _Parser
) -> None:
    help = "the built-in recipes; import those of other tools"
    recipes = verbs.add_parser("recipes", help=help, description=help, parents=[common])
    recipes.set_defaults(run="recipes:recipes", name=None)
    actions = recipes.add_subparsers(
        action=_Recipes,
        metavar="RECIPE | import FILE",
        help="print this recipe as TOML, or import one ('recipes import --help')",
    )
    show = actions.add_parser("show", description="print a recipe as TOML", parents=[common])
    show.add_argument("name", metavar="RECIPE", help="built-in recipe or TOML file")
    help = "make a recipe of another tool's file, and say what has no counterpart"
    sub = actions.add_parser("import", description=help, parents=[common, settings])
    sub.set_defaults(run="recipes:import_")
    sub.add_argument(
        "file", metavar="FILE", help="recipe of Unsloth Studio, LLaMA-Factory or Axolotl"
    )
    sub.add_argument("--out", metavar="FILE.toml", help="write it there (default: print it)")
    sub.add_argument("--force", action="store_true", help="write over a file that is there")
    sub.add_argument("--name", metavar="NAME", dest="as_name", help="name of the recipe")
    sub.add_argument(
        "--from",
        dest="kind",
        choices=["studio", "llama-factory", "axolotl"],
        help="whose file it is (default: recognised by its keys)",
    )


def _bench_parser(sub: _Parser) -> None:
    sub.add_argument("--quick", action="store_true", help="at most five minutes on a GPU")
    sub.add_argument("--recipe", metavar="R", help="default: amazon-titles on a GPU, demo on a CPU")
    sub.add_argument(
        "--shape",
        choices=["3b", "1b", "tiny"],
        help="random weights in this shape of Llama 3.2 (default: the recipe's model, if here)",
    )
    sub.add_argument("--steps", type=int, metavar="N", help="optimiser steps of each contestant")
    sub.add_argument("--batch", type=int, metavar="N", help="per_device_train_batch_size")
    sub.add_argument("--max-length", type=int, metavar="N", help="tokens of a row at most")
    sub.add_argument("--only", default="", metavar="A,B", help="these contestants (see the table)")
    sub.add_argument(
        "--rows",
        choices=["corpus", "full", "both"],
        default="both",
        help="rows as long as the data's, rows that all have max_length, or both (default)",
    )
    sub.add_argument("--device", choices=["auto", "cuda", "cpu"], default="auto")
    sub.add_argument("--now", action="store_true", help="though a run uses the GPU")


def _turn(sub: argparse.ArgumentParser) -> None:
    when = sub.add_mutually_exclusive_group()
    when.add_argument("--queue", action="store_true", help="start it when its turn comes")
    when.add_argument("--now", action="store_true", help="start it though others use the GPU")


def _queue_parser(verbs: "argparse._SubParsersAction[_Parser]", common: _Parser) -> None:
    help = "runs that wait for a free device: list, add, move, rm, pause, resume, run"
    queue = verbs.add_parser("queue", help=help, description=help, parents=[common])
    queue.set_defaults(run="queue:list_queue")
    actions = queue.add_subparsers(title="actions", metavar="ACTION")

    def action(name: str, run: str, help: str) -> _Parser:
        sub = actions.add_parser(name, help=help, description=help, parents=[common])
        sub.set_defaults(run=f"queue:{run}")
        return sub

    action("list", "list_queue", "who waits, in order, and for what")
    sub = action("add", "add", "put a run that ended, or a new one of a recipe, last")
    sub.add_argument("ref", metavar="RUN|RECIPE")
    sub = action("move", "move", "give a waiting run another place")
    sub.add_argument("ref", metavar="RUN")
    sub.add_argument("where", metavar="first|last|up|down|N")
    sub = action("rm", "remove", "take a run, or a sweep's, off the queue; the history keeps it")
    sub.add_argument("ref", metavar="RUN|SWEEP")
    action("pause", "pause", "start nothing more; what runs goes on")
    action("resume", "resume", "go on after a pause")
    sub = action("run", "run", "start what can start")
    sub.add_argument("--wait", action="store_true", help="stay until all of it has ended")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit status: 0 only for success, 2 for wrong usage."""
    from engine.commands.output import Output
    from engine.home import private_umask

    args = build_parser().parse_args(argv)
    private_umask()
    module, _, function = args.run.partition(":")
    out = Output(args.json)
    try:
        command = getattr(importlib.import_module(f"engine.commands.{module}"), function)
        return command(args, out)
    except UserError as error:
        out.error(str(error))
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:  # a disk that is full, read-only or gone, wherever it is met
        where = os.fsdecode(error.filename) if error.filename else "standard output"
        out.error(f"{where}: {error.strerror or error}")
        return 1
    except KeyboardInterrupt:
        out.note("tunebench: interrupted")
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
