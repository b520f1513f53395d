"""Where an OpenAI-compatible server is, as people write it: ``URL#MODEL key=NAME``."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from engine.errors import UserError

__all__ = ["Endpoint", "endpoint_of", "is_address"]


@dataclass(frozen=True)
class Endpoint:
    """A model of an OpenAI-compatible server. The key itself is not in here, nor anywhere else."""

    url: str
    """``https://host/v1``: what comes before ``/chat/completions``."""
    model: str
    key: str = ""
    """Name of the environment variable that holds the key; empty: none is sent."""

    @property
    def host(self) -> str:
        """Host and port, for people."""
        return urlsplit(self.url).netloc

    def __str__(self) -> str:
        """As it is written; :func:`endpoint_of` reads it."""
        return f"{self.url}#{self.model}" + (f" key={self.key}" if self.key else "")


def is_address(ref: str) -> bool:
    """Whether this is meant as the address of a server."""
    return "://" in ref


def endpoint_of(ref: str) -> Endpoint:
    """The server and model that ``ref`` names. Raises :class:`UserError` saying what is wrong."""
    address, *words = ref.split()
    key = ""
    for word in words:
        name, _, value = word.partition("=")
        if name != "key" or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
            # What stands there may be a key: it is not repeated.
            raise UserError(
                f"{_shown(address)}: what comes behind it must be key=NAME, where NAME is an "
                "environment variable that holds the key (key=OPENAI_API_KEY)"
            )
        key = value
    url, _, model = address.partition("#")
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  raises for what is no number
    except ValueError as error:
        raise UserError(f"{_shown(address)}: is no address ({error})") from None
    if parts.username is not None or parts.password is not None:
        raise UserError(
            f"{parts.hostname}: an address has no user or password in it; put the key in an "
            "environment variable and name that: URL#MODEL key=NAME"
        )
    if parts.scheme not in ("http", "https"):
        raise UserError(f"{_shown(address)}: only http:// and https:// addresses can be asked")
    if not parts.hostname:
        raise UserError(f"{_shown(address)}: names no host")
    if parts.query:
        raise UserError(
            f"{parts.scheme}://{parts.netloc}{parts.path}: an address ends with its path; leave "
            "out what comes behind the question mark"
        )
    if not model:
        raise UserError(f"{_shown(address)}: name a model behind it: {_shown(url)}#MODEL")
    return Endpoint(url.rstrip("/").removesuffix("/chat/completions"), model, key)


def _shown(address: str) -> str:
    """An address in an error, without what may be a password in it."""
    scheme, _, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
