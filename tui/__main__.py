"""The ``tunebench`` program: a verb runs headless, no verb opens the workbench."""

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status of the verb, or of the workbench."""
    from engine import cli

    words = list(sys.argv[1:] if argv is None else argv)
    args = cli.build_parser().parse_args(words)
    if hasattr(args, "run"):
        return cli.main(words)
    from engine.errors import UserError

    try:
        if not (sys.__stdin__ and sys.__stdin__.isatty() and sys.__stderr__.isatty()):
            raise UserError("the workbench needs a terminal; 'tunebench --help' tells the verbs")
        from tui.ring import ways
        from tui.userkeys import keys_file, load_user_keys

        notify_by = ways(args.notify)
        load_user_keys(keys_file())
        from tui.app import run_app

        return run_app(
            home=args.home,
            mouse=not args.no_mouse,
            light=args.light,
            low_bandwidth=args.low_bandwidth,
            notify_by=notify_by,
        )
    except UserError as error:
        from engine.text import safe_line

        print(f"tunebench: {safe_line(str(error))}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
