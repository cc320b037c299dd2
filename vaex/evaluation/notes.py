"""What the numbers of a run mean, in sentences: collapsed latents, overfitting, an objective that is no bound on log p(x)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from vaex.core import Latents
from vaex.evaluation.latents import latent_variables

NEGLIGIBLE = 0.01  # nats: a latent with less carries nothing of x
ERRORS = 3.0  # standard errors from which a difference is told
NAMED = 5  # latents named in a sentence, at most
LOWER_IS_BETTER = ("cross_entropy", "reconstruction")


class Note(NamedTuple):
    """Sentence about one member; notes of several members of one ``kind`` are told together."""

    kind: str
    text: str


def member_notes(
    numbers: Mapping[str, Any], bound: str, hparams: Mapping[str, float], latents: Sequence[Latents]
) -> list[Note]:
    """Return what is to be said of one member.

    Args:
      numbers: from its evaluation.
      bound: which bound the objective is, as the registry of models says; "" where that is not known.
      hparams: values of its hyperparameters at the last step.
      latents: of the recipe, which name the latents.
    """
    notes = (
        ("collapse", _collapse(numbers, latents)),
        ("overfitting", _overfitting(numbers)),
        ("weights", _weights(numbers)),
        ("objective", _objective(numbers, bound, hparams)),
    )
    return [Note(kind, text) for kind, text in notes if text]


def combined(notes: Sequence[Sequence[Note]], titles: Sequence[str]) -> list[str]:
    """Return the notes of all members as sentences: of each kind one for one or two members, the first's for more.

    Args:
      notes: of each member.
      titles: of each member.
    Example:
      >>> combined([[Note("a", "sinks")], [Note("a", "sinks")]], ["seed 0", "seed 1"])
      ['sinks']
      >>> combined([[Note("a", "sinks")], []], ["seed 0", "seed 1"])
      ['seed 0: sinks']
    """
    lines = []
    for kind in dict.fromkeys(note.kind for of_member in notes for note in of_member):
        texts = {
            title: note.text
            for title, of_member in zip(titles, notes, strict=True)
            for note in of_member
            if note.kind == kind
        }
        title, text = next(iter(texts.items()))
        if set(texts.values()) == {text} and len(texts) == len(titles):
            lines.append(text)
        elif len(texts) > 2:
            lines.append(f"{len(texts)} of {len(titles)} members, such as {title}: {text}")
        else:
            lines += [f"{title}: {text}" for title, text in texts.items()]
    return lines


def _collapse(numbers: Mapping[str, Any], latents: Sequence[Latents]) -> str:
    kl = numbers.get("kl_per_latent")
    if kl is None:
        total = numbers.get("kl")
        collapsed = total is not None and 0.0 <= total < NEGLIGIBLE
        unused = []
    else:
        total, collapsed = sum(kl), max(kl) < NEGLIGIBLE
        names = [
            variable.name for variable in latent_variables(latents, sum(block.size for block in latents) or len(kl))
        ]
        unused = [name for name, nats in zip(names, kl, strict=True) if nats < NEGLIGIBLE]
    if collapsed:
        return (
            f"the posterior has collapsed to the prior (KL {total:.2g} nats): codes carry nothing of x; lower the weight of the "
            "KL, or warm it up"
        )
    if not unused or kl is None:
        return ""
    more = f" and {len(unused) - NAMED} others" if len(unused) > NAMED else ""
    verb = "is" if len(unused) == 1 else "are"
    listed = ", ".join(unused[:NAMED])
    return f"{len(unused)} of {len(kl)} latents {verb} collapsed (KL below {NEGLIGIBLE} nats): {listed}{more}"


def _overfitting(numbers: Mapping[str, Any]) -> str:
    for name, value in numbers.items():
        bound = name.removeprefix("training_")
        if bound == name or name.endswith("_standard_error"):
            continue
        errors = [numbers.get(f"{which}_standard_error") for which in (name, bound)]
        unseen = numbers.get(bound)
        if value is None or unseen is None or errors[0] is None or errors[1] is None:
            return ""
        gap, error = value - unseen, (errors[0] ** 2 + errors[1] ** 2) ** 0.5
        gap = -gap if bound in LOWER_IS_BETTER else gap
        if gap > ERRORS * error:
            return (
                f"overfitting: {bound} of training examples is {value:.4g}, better than of unseen ones by {gap:.2g} ± "
                f"{error:.1g} nats; fewer steps, a smaller network or more data would narrow that"
            )
    return ""


def _weights(numbers: Mapping[str, Any]) -> str:
    gain, error = (numbers.get(f"log_likelihood_above_elbo{suffix}") for suffix in ("", "_standard_error"))
    if gain is None or error is None or gain >= -ERRORS * error or gain > -1e-3:
        return ""
    return (
        f"log_likelihood is below the ELBO of the same examples by {-gain:.2g} ± {error:.1g} nats, which no importance bound is in "
        "expectation: raise --eval_samples; if that does not help, the model's ELBO or its log_weights are wrong"
    )


def _objective(numbers: Mapping[str, Any], bound: str, hparams: Mapping[str, float]) -> str:
    condition = re.fullmatch(r"(\w+) >= (\d+)", bound)
    name, least = (condition[1], float(condition[2])) if condition else ("beta", 1.0)
    if bound.startswith(("no", "relaxed")):
        cause = "the objective"
    elif bound and name in hparams and hparams[name] < least:
        cause = f"the objective with {name} = {hparams[name]:g}, below {least:g},"
    else:
        return ""
    bounds = [name for name in ("elbo", "log_likelihood") if numbers.get(name) is not None]
    but = f"; {' and '.join(bounds)} {'is one' if len(bounds) == 1 else 'are bounds'}" if bounds else ""
    return f"{cause} is no bound on log p(x){but}"
