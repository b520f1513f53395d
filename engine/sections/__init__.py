"""The sections of a recipe: which keys there are, their types, defaults, limits and meanings.

``engine.recipe`` puts them together and reads them from TOML.
"""

from pydantic import BaseModel, ConfigDict

__all__ = ["Section"]


class Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )
