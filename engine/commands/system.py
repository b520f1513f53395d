"""``doctor``: looks, and with ``--repair`` puts right; imports nothing heavy."""

import argparse

from engine.commands.output import Output
from engine.home import home_at

__all__ = ["doctor"]


def doctor(args: argparse.Namespace, out: Output) -> int:
    """Print every check, after what was repaired. Exit status 1 when one of them failed."""
    from engine.system.doctor import checks

    home = home_at(args.home)
    repaired: list[str] = []
    if args.repair and home.path.is_dir():
        from engine.history.repair import repair

        repaired = repair(home, full=args.full)
        for words in repaired or ["nothing of the store had to be repaired"]:
            out.line(words)
        out.line()
    found = checks(home, full=args.full)
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
            "repaired": repaired,
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
