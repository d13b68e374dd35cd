"""The verbs `chat`, `score` and `models` as they are typed; the work is in model_commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

models = typer.Typer(
    help="Models added to this machine: their names then work wherever a model is wanted.",
    epilog="They lie in $INSTRUCTLOOP_HOME, else in $XDG_CACHE_HOME/instructloop or ~/.cache/instructloop.",
    no_args_is_help=True,
)
Name = Annotated[str, typer.Argument(metavar="NAME|FOLDER", help="A published name, a run, an added model, a folder.")]
Directory = Annotated[
    Path | None, typer.Option("--dir", help="The workspace; the folder we are in, if it is one, where not given.")
]


def chat(
    name: Name,
    against: Annotated[str | None, typer.Option(metavar="OTHER", help="A second policy, side by side.")] = None,
    directory: Directory = None,
    temperature: Annotated[float, typer.Option(help="0: always the most likely token.", min=0)] = 1.0,
    max_new_tokens: Annotated[
        int | None, typer.Option(help="Of an answer; 256, or half of a shorter context, where not given.", min=1)
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed and prompts give the same answers.", min=0)] = 1,
    system: Annotated[str | None, typer.Option(help="What the model is told before everything else.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="In a pipe: JSON lines out.")] = False,
) -> None:
    """Talk to a policy, or to two side by side; in a pipe every line is a prompt by itself."""
    from instructloop import model_commands
    from instructloop.models.dialogue import Speaking

    speaking = Speaking(temperature, seed, max_new_tokens, system)
    model_commands.chat([name, *([] if against is None else [against])], directory, speaking, as_json=as_json)


def score(
    name: Name,
    file: Annotated[
        str | None, typer.Argument(metavar="FILE|-", help="Rows with prompt and completion; - or nothing: from a pipe.")
    ] = None,
    directory: Directory = None,
    prompt: Annotated[str | None, typer.Option(help="One prompt, with --completion, in place of a file.")] = None,
    completion: Annotated[str | None, typer.Option(help="Its completion.")] = None,
) -> None:
    """Score completions with a reward model: one JSON line out for each row in, counts on standard error."""
    from instructloop import model_commands

    model_commands.score(name, file, (prompt, completion), directory)


@models.command("add", epilog="Example: instructloop models add smollm2")
def add(
    source: Annotated[
        str, typer.Argument(metavar="smollm2|FOLDER|FILE.gguf|OWNER/NAME", help="What is added; the last: of the hub.")
    ],
    name: Annotated[str | None, typer.Option("--as", metavar="NAME", help="What it is called from now on.")] = None,
) -> None:
    """Check a model, convert it where it is no folder of safetensors yet, and remember it under a name."""
    from instructloop import model_commands

    model_commands.add_model(source, name)


@models.command("list", epilog="Example: instructloop models list")
def list_() -> None:
    """Show the models that are added."""
    from instructloop import model_commands

    model_commands.list_models()


@models.command("remove", epilog="Example: instructloop models remove smollm2")
def remove(name: Annotated[str, typer.Argument(help="As `models list` shows it.")]) -> None:
    """Forget a model; a folder of your own is left as it is."""
    from instructloop import model_commands

    model_commands.remove_model(name)


def add_to(app: typer.Typer) -> None:
    """Give the command these verbs."""
    app.command(epilog="Example: instructloop chat ppo_ptx --against sft --dir demo")(chat)
    app.command(epilog="Example: instructloop score reward completions.jsonl --dir demo")(score)
    app.add_typer(models, name="models")
