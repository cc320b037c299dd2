"""Refusal of options and hyperparameters that would do nothing beside the options of a run."""

from __future__ import annotations

from collections.abc import Iterator

from vaex.configuration.declare import Field, Needs, fields
from vaex.configuration.grammar import hyperparameter_texts
from vaex.configuration.settings import Settings
from vaex.errors import UserError


def unmet(field: Field, config: object) -> Needs:
    """Return what a field needs and the options do not have: option -> values of which it needs one; {} where it has an effect.

    Options that the model's ``Config`` does not declare are left out. Of several alternatives the first is returned.

    Example:
      >>> from vaex.models.autoencoders.denoising_autoencoder import Config, HParams
      >>> unmet(fields(HParams)["corruption_rate"], Config(corruption="gaussian"))
      {'corruption': ('masking', 'salt_and_pepper')}
    """
    missing = [
        {name: values for name, values in needs.items() if getattr(config, name, values[0]) not in values}
        for needs in field.declaration.needs
    ]
    return missing[0] if missing and all(missing) else {}


def changed(settings: Settings) -> Iterator[Field]:
    """Yield the options of the model and hyperparameters that have another value than their default."""
    config = settings.config
    for name, field in fields(type(config)).items():
        if getattr(config, name) != field.default:
            yield field
    declared = fields(settings.module.HParams)
    defaults = hyperparameter_texts(settings.module.HParams())
    for name, field in declared.items():
        if any(hyperparameter_texts(member.hparams)[name] != defaults[name] for member in settings.members):
            yield field


def refuse_idle(settings: Settings) -> None:
    """Raise UserError for an option or a hyperparameter that differs from its default and has no effect."""
    for field in changed(settings):
        for name, values in unmet(field, settings.config).items():
            flags = " or ".join(f"--{name}={_text(value)}" for value in values)
            raise UserError(
                f"--{field.name} does nothing beside --{name}={_text(getattr(settings.config, name))}: it is for {flags}; leave "
                "it out"
            )


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
