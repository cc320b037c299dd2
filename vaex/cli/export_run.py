"""``vaex export RUN --to=FOLDER``: a finished run as programs and weights that need no vaex."""

from __future__ import annotations

from collections.abc import Sequence

from vaex.cli.parse import split_arguments
from vaex.errors import UserError, nearest

HELP = """usage: vaex export RUN --to=FOLDER [flags]

Write a trained run as programs that jax runs without vaex, and its weights.

RUN                run directory, which training printed
--to=FOLDER        where the files are written: a folder that is not there yet, or is empty
--member=INT       which member of a population, counted from 0 in the order of summary.json
--what=NAMES       functions to export, joined by commas (default: encode,decode,sample)
--formats=NAMES    stablehlo, safetensors, onnx, joined by commas (default: stablehlo,safetensors)
--trust            import modules of your own that the run names, which runs their code
"""
FLAGS = ("to", "member", "what", "formats", "trust")


def export_run(arguments: Sequence[str]) -> int:
    """Export a member of a run; return the exit code 0.

    Raises: UserError with one line that names the remedy.
    """
    if not arguments or arguments[0] in ("-h", "--help") or "--help" in arguments:
        print(HELP, end="")
        return 0
    if arguments[0].startswith("--"):
        raise UserError("export: the run directory comes first, as in vaex export runs/mine --to=exported")
    texts = split_arguments(arguments[1:])
    for name, text in texts.items():
        if name not in FLAGS:
            raise UserError(f"export: --{name} is not a flag; {nearest(name, FLAGS)}")
        if (text is None) != (name == "trust"):
            raise UserError(f"export: write --{name}" if name == "trust" else f"export: --{name} lacks its value")
    if "to" not in texts:
        raise UserError("export: --to=FOLDER is missing: where the files are written")
    from vaex import export
    from vaex.api.loading import load
    from vaex.runs import console

    run = load(arguments[0], trust="trust" in texts)
    member = texts.get("member")
    if member is None and len(run) > 1:
        raise UserError(f"export: {arguments[0]} has {len(run)} members; give --member=0 to --member={len(run) - 1}")
    if member is not None and (not member.isdecimal() or int(member) >= len(run)):
        raise UserError(f"export: --member={member}, but {arguments[0]} has {len(run)} member(s), counted from 0")
    choices = {name: tuple(str(texts[name]).split(",")) for name in ("what", "formats") if name in texts}
    talk = console.command_line()
    folder = export.export(run[int(member or 0)], str(texts["to"]), tell=talk.tell, **choices)
    talk.tell("")
    names = ", ".join(sorted(path.name for path in folder.iterdir()))
    talk.say(f"exported to {folder}: {names}")
    return 0
