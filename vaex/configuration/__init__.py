"""Options and hyperparameters: declared once, read from text and written back, resolved to settings."""

from vaex.configuration.declare import (
    Declaration,
    Field,
    fields,
    hparam,
    hyperparameters,
    option,
    options,
    with_default,
)

__all__ = ["Declaration", "Field", "fields", "hparam", "hyperparameters", "option", "options", "with_default"]
