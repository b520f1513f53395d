"""The rejects file: every row that could not be read, whole, with its line number and why."""

import base64
import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["RejectWriter"]


class RejectWriter:
    """Writes ``rejects.jsonl``: line, file (where the source has several), reason, raw.

    Bytes that are not UTF-8 stand in ``raw_base64`` as well, so that nothing is lost.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")

    def add(self, where: tuple[str, int], line: int, reason: str, raw: bytes) -> None:
        """One row; ``where``: its file ("" when there is only one) and its line in that."""
        file, own = where
        told: dict[str, Any] = {"line": line, "reason": reason}
        if file:
            told |= {"file": file, "line_of_file": own}
        text = raw.decode("utf-8", "replace")
        told["raw"] = text
        if text.encode() != raw:
            told["raw_base64"] = base64.b64encode(raw).decode("ascii")
        self._file.write(json.dumps(told, ensure_ascii=False) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
