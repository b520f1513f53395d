"""``doctor``: a verb that only looks, and imports nothing heavy."""

import argparse

from engine.commands.output import Output
from engine.home import home_at

__all__ = ["doctor"]


def doctor(args: argparse.Namespace, out: Output) -> int:
    """Print every check. Exit status 1 when one of them failed."""
    from engine.system.doctor import checks

    home = home_at(args.home)
    found = checks(home)
    failed = [check for check in found if not check.ok]
    width = max(len(check.name) for check in found)
    for check in found:
        out.line(f"{check.mark:<4}  {check.name:<{width}}  {check.words}")
        if check.advice:
            out.line(f"{'':<4}  {'':<{width}}  -> {check.advice}")
    out.line()
    count = len(failed)
    out.line(f"{count} problem{'s' * (count != 1)} found." if failed else "Everything works.")
    out.document(
        {
            "ok": not failed,
            "home": str(home.path),
            "checks": [
                {
                    "name": check.name,
                    "ok": check.ok,
                    "words": check.words,
                    "advice": check.advice,
                }
                for check in found
            ],
        }
    )
    return 1 if failed else 0
