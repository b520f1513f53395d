"""Renders a tokenizer's chat template as Transformers does, in Jinja's sandbox, without torch."""

import datetime
import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import jinja2
import jinja2.ext
from jinja2.nodes import CallBlock, Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from engine.errors import UserError

__all__ = ["ChatTemplate"]


class _GenerationTag(jinja2.ext.Extension):
    """``{% generation %}`` marks the answer for Transformers' own masks; here it only passes."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> Node | list[Node]:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return CallBlock(self.call_method("_pass"), [], [], body).set_lineno(line)

    @staticmethod
    def _pass(caller: Any) -> str:
        return caller()


def _tojson(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def _raise_exception(message: str) -> None:
    raise jinja2.exceptions.TemplateError(message)


def _clock(date: str) -> Callable[[str], str]:
    """``strftime_now`` of templates that write the date into the prompt: always the same day.

    With the clock's own date a preview, a training and the same run resumed a day later would
    differ.
    """
    day = datetime.date.fromisoformat(date) if date else datetime.date.today()
    return datetime.datetime.combine(day, datetime.time()).strftime


@lru_cache(maxsize=1)
def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    return environment


class ChatTemplate:
    """One compiled template and the tokenizer's special tokens, which templates may name."""

    def __init__(
        self, source: str, special_tokens: dict[str, str], where: str, date: str = ""
    ) -> None:
        """``date``: the ISO date that the template takes for today's; empty: today's."""
        self._where = where
        # Not as globals of the template: they would be looked up in a chain, 10 % slower a row.
        self._names: dict[str, Any] = {**special_tokens, "strftime_now": _clock(date)}
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateError as error:
            raise UserError(f"{where}: the chat template is broken: {error}") from None

    def render(self, messages: Sequence[dict[str, str]], add_generation_prompt: bool) -> str:
        """The text of ``messages``. Raises :class:`UserError` when the template refuses them."""
        try:
            return self._template.render(
                messages=list(messages),
                tools=None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self._names,
            )
        except jinja2.TemplateError as error:
            raise UserError(f"{self._where}: the chat template refuses the row: {error}") from None
