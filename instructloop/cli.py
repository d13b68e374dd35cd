"""The command `instructloop VERB`: reads what is typed, reports errors and gives the exit code; the work is below."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from instructloop import model_verbs, quick_verbs
from instructloop.allocator import keep_freed_memory
from instructloop.profiling import profiling

app = typer.Typer(
    name="instructloop",
    help="Teach a language model with your own people's judgement: prompts, demonstrations, SFT, samples, rankings, "
    "reward model, PPO and PPO-ptx, evaluation. Start with: instructloop demo",
    epilog="Exit codes: 0 done, 1 failed, 2 bad usage, 130 stopped by Ctrl-C. NO_COLOR is obeyed.",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
STAGES = {  # verb -> stage, and what the steps of that stage do
    "prompts": ("s1_prompts", "Collect prompts, clean them, split them by user"),
    "demonstrations": ("s2_demonstrations", "Have people write demonstrations, then freeze them"),
    "sft": ("s3_sft", "Fit demonstrations"),
    "samples": ("s4_samples", "Sample completions of named policies"),
    "rankings": ("s5_rankings", "Have people rate and rank completions, then freeze the rankings"),
    "reward": ("s6_reward", "Fit reward models to rankings"),
    "ppo": ("s7_ppo", "Train policies against a reward model"),
    "policy": ("s8_policy", "Choose among candidates by a written rule"),
    "evaluation": ("s9_evaluation", "Evaluate the policies and write the report"),
}
Dir = Annotated[Path, typer.Option("--dir", help="The workspace: the folder with loop.yaml.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="STEP.FIELD=VALUE", help="Override loop.yaml for this once.")
]
Seed = Annotated[int, typer.Option(help="Of everything that is drawn.", min=0)]


@app.callback()
def root(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Trace a few steps of each training and say what was slow.")
    ] = False,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    """Answer what is asked without a verb; `--debug` and `--profile` are read by `main`."""
    if version:
        from instructloop import __version__

        print(f"instructloop {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


@app.command(epilog="Example: instructloop init --recipe real --data labels --dir mine")
def init(
    recipe: Annotated[str, typer.Option(help="Which loop: microworld or real.")] = "microworld",
    data: Annotated[Path | None, typer.Option(help="Folder with your demonstrations and rankings.")] = None,
    directory: Dir = Path(),
    seed: Seed = 1,
    people: Annotated[str, typer.Option(help="app: the loop waits for labelers in the app.")] = "simulated",
) -> None:
    """Make a workspace: a folder with loop.yaml, where everything of one loop will be."""
    from instructloop import commands

    commands.make(directory, recipe, seed=seed, data=data, people=commands.who_labels(people))
    print(f"made {directory / 'loop.yaml'}; next: {commands.command('run', directory)}")


@app.command(epilog="Example: instructloop status --dir demo")
def status(
    directory: Dir = Path(),
    settings: Settings = None,
    as_json: Annotated[bool, typer.Option("--json", help="One object, for programs.")] = False,
) -> None:
    """Say where the loop stands: what is done, what waits for whom, what is next."""
    from instructloop import commands

    commands.show_status(commands.open_workspace(directory, settings), as_json=as_json)


@app.command(epilog="Example: instructloop run --until reward --set ppo.kl_coef=0.05 --dir demo")
def run(
    directory: Dir = Path(),
    until: Annotated[str | None, typer.Option(metavar="STEP", help="Stop when this step is done.")] = None,
    settings: Settings = None,
) -> None:
    """Do everything that needs no people; what is done already is not done again."""
    from instructloop import commands

    workspace = commands.open_workspace(directory, settings)
    commands.say_states(workspace, commands.run_loop(workspace, until))
    commands.say_report(workspace)


@app.command(epilog="Example: instructloop lineage ppo_ptx --dir demo")
def lineage(
    name: Annotated[str, typer.Argument(help="A published policy, the name of a step, or an id.")],
    directory: Dir = Path(),
    full: Annotated[bool, typer.Option("--full", help="All digits of the hashes.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Hash every file again and compare.")] = False,
) -> None:
    """Show what a run was made of: every ancestor down to the frozen labels, with hashes."""
    from instructloop import commands

    commands.show_lineage(commands.open_workspace(directory), name, full=full, verify=verify)


@app.command(epilog="Example: instructloop report --open --dir demo")
def report(
    directory: Dir = Path(),
    open_it: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
) -> None:
    """Say where the page of the latest evaluation is, or open it."""
    from instructloop import commands

    commands.show_report(commands.open_workspace(directory), open_it=open_it)


@app.command(epilog="Example: instructloop demo --seed 2 --dir demo2")
def demo(seed: Seed = 1, directory: Dir = Path("demo")) -> None:
    """Run the whole loop on the microworld: minutes on two cores, simulated labelers, a report at the end."""
    from instructloop import commands

    commands.whole_loop(directory, "microworld", seed=seed, data=None)


@app.command(epilog="Example: instructloop real --data ../labels --dir real")
def real(
    data: Annotated[Path, typer.Option(help="Folder with demonstrations, rankings, prompts and text.")],
    seed: Seed = 1,
    directory: Dir = Path("real"),
) -> None:
    """Run the whole loop on a small real model and your people's labels: about an hour on two cores."""
    from instructloop import commands

    commands.whole_loop(directory, "real", seed=seed, data=data)


@app.command(
    "simulate-labelers", epilog="Example: instructloop simulate-labelers --url http://127.0.0.1:8800 --dir try"
)
def simulate_labelers(
    url: Annotated[str, typer.Option(help="Where the app is, as `instructloop web` says it.")],
    directory: Dir = Path(),
    team: Annotated[int, typer.Option(help="How many training labelers; held-out ones are added, 3 for 8.")] = 40,
    seed: Annotated[int | None, typer.Option(help="Of the labelers; the workspace's if not given.", min=0)] = None,
    speed: Annotated[
        float | None, typer.Option(help="How many times as fast as people; without it they do not pause.")
    ] = None,
) -> None:
    """Let the microworld's simulated labelers work in the app through HTTP, to try it or to load it."""
    from instructloop import commands

    commands.simulate(commands.open_workspace(directory), url, num_train=team, seed=seed, speed=speed)


@app.command(name="import", epilog="Example: instructloop import labels.jsonl --as rankings --dir mine")
def import_(
    source: Annotated[
        str, typer.Argument(help="A .jsonl, .csv, .tsv or .parquet file, a datasets folder or hub name.")
    ],
    kind: Annotated[str, typer.Option("--as", help="demonstrations, rankings, prompts or text.")],
    shape: Annotated[str | None, typer.Option(help="The shape of the rows; without it the fields say it.")] = None,
    field: Annotated[list[str] | None, typer.Option(metavar="OURS=THEIRS", help="Which field is which.")] = None,
    prompt: Annotated[str | None, typer.Option(help="The prompt of rows whose own is blank.")] = None,
    labeler: Annotated[str | None, typer.Option(help="Who judged, where a row names nobody.")] = None,
    cohort: Annotated[str, typer.Option(help="Of the labelers; heldout: never trained on.")] = "train",
    name: Annotated[str | None, typer.Option(help="What the origin is called; the file's name if not given.")] = None,
    split: Annotated[str | None, typer.Option(help="Of a data set that has several.")] = None,
    directory: Dir = Path(),
) -> None:
    """Bring labels that were made elsewhere into the store and freeze them; every row is kept or counted."""
    from instructloop import commands, label_commands

    options = {"shape": shape, "prompt": prompt, "labeler": labeler, "cohort": cohort, "name": name, "split": split}
    label_commands.bring(commands.open_workspace(directory), source, kind, options, field or ())


@app.command(epilog="Example: instructloop export rankings --shape pairs --to pairs.jsonl --dir mine")
def export(
    name: Annotated[str, typer.Argument(metavar="RUN", help="A run with frozen labels: its name or id.")],
    shape: Annotated[str, typer.Option(help="pairs, hh, kwise; prompt_completion, messages; judgements: as frozen.")],
    to: Annotated[Path, typer.Option(metavar="FILE", help="Ends in .jsonl, .csv, .tsv or .parquet.")],
    chat: Annotated[bool, typer.Option("--chat", help="Prompts and completions as lists of messages.")] = False,
    directory: Dir = Path(),
) -> None:
    """Write frozen labels in the shape of another trainer, with a manifest and its hash."""
    from instructloop import commands, label_commands

    label_commands.send(commands.open_workspace(directory), name, shape, to, chat=chat)


@app.command(epilog="Example: instructloop web --dir demo")
def web(
    directory: Dir = Path(),
    host: Annotated[str, typer.Option(help="Address to listen on; beyond this machine only with TLS in front.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="0: any free one.", min=0, max=65535)] = 8800,
    url: Annotated[str | None, typer.Option(help="How people reach it, as https://labels.example.org.")] = None,
    behind_tls: Annotated[bool, typer.Option("--behind-tls", help="A proxy in front of it speaks HTTPS.")] = False,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Listen beyond this machine without TLS: passwords can be read.")
    ] = False,
    trust_proxy: Annotated[
        list[str] | None, typer.Option(metavar="ADDRESS", help="Believe this proxy about whom it speaks for.")
    ] = None,
) -> None:
    """Serve the labelling app: the workspace's store, or with `people: app` the one that DATABASE_URL names."""
    from instructloop import commands

    commands.serve(
        directory,
        host=host,
        port=port,
        url=url,
        behind_tls=behind_tls,
        allow_remote=allow_remote,
        trusted_proxies=tuple(trust_proxy or ()),
    )


@app.command(epilog="Example: instructloop backup monday.sqlite --dir demo")
def backup(
    file: Annotated[Path, typer.Argument(help="A new file for the copy.")],
    directory: Dir = Path(),
) -> None:
    """Copy the workspace's store as of now into a file, also while people work on it."""
    from instructloop import commands
    from instructloop.store.backup import backup

    num_bytes = backup(commands.open_workspace(directory).store_place, file)
    print(f"wrote {file}, {num_bytes} bytes; to put it back: instructloop restore {file}")


@app.command(epilog="Example: instructloop restore monday.sqlite --dir demo")
def restore(
    file: Annotated[Path, typer.Argument(help="A file that `instructloop backup` wrote.")],
    directory: Dir = Path(),
) -> None:
    """Put a backup in the place of the workspace's store, which is kept beside it; stop the app first."""
    from instructloop import commands
    from instructloop.store.backup import restore

    kept = restore(file, commands.open_workspace(directory).store_place)
    print(f"restored {file}" + (f"; the store of before is {kept}" if kept else ""))


def _add_stage(verb: str, stage: str, does: str) -> None:
    """Add the verb that does the steps of one stage."""

    def do(
        step: Annotated[str | None, typer.Argument(help="Only this step of the stage.")] = None,
        directory: Dir = Path(),
        settings: Settings = None,
    ) -> None:
        from instructloop import commands

        workspace = commands.open_workspace(directory, settings)
        commands.say_states(workspace, commands.run_stage(workspace, stage, step))

    text = f"{does} (stage {stage[1]}: the steps that have what they need)."
    app.command(name=verb, help=text, epilog=f"Example: instructloop {verb} --dir demo")(do)


for _verb, _stage in STAGES.items():
    if _verb not in quick_verbs.VERBS:
        _add_stage(_verb, *_stage)
quick_verbs.add_to(app)
model_verbs.add_to(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; an error is one line, its traceback only with --debug; always ends in SystemExit."""
    typed = list(sys.argv[1:] if arguments is None else arguments)
    kept = [text for text in typed if text not in ("--debug", "--profile")]  # they may stand before or after the verb
    code = 0
    _settle_libraries()
    try:
        with profiling(wanted="--profile" in typed):
            _invoke(kept)
    except typer.Exit as end:
        code = end.exit_code
    except (KeyboardInterrupt, typer.Abort) as stop:
        where = str(stop) or "stopped; finished steps are kept, the others go on from their last checkpoint"
        _complain(f"{where}. To go on: instructloop {' '.join(kept)}", "yellow")
        code = 130
    except Exception as error:
        if "--debug" in typed:
            raise
        code = _failed(error)
    sys.exit(code)


def _settle_libraries() -> None:
    """Set what torch's libraries read when they are loaded, here and in worker processes; what is set already stays.

    OpenMP threads that spin long while another process has their core make small products 10 to 50 times slower.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    keep_freed_memory()


def _invoke(typed: Sequence[str]) -> None:
    """Do what is typed, and let every exception through: typer's own entry point would swallow what Ctrl-C says."""
    command = typer.main.get_command(app)
    with command.make_context("instructloop", list(typed)) as context:
        command.invoke(context)


def _failed(error: Exception) -> int:
    """Say in one line what went wrong; return 2 for bad usage, 1 for the rest."""
    from instructloop.commands import Usage

    if isinstance(error, Usage | _usage_error()):
        _complain(f"error: {getattr(error, 'format_message', error.__str__)()} (see instructloop --help)", "red")
        return 2
    if isinstance(error, OSError):
        where = f": {error.filename}" if error.filename else ""
        hint = "; free some space and run again: nothing half-written counts" if error.errno == errno.ENOSPC else ""
        _complain(f"error: {error.strerror or error}{where}{hint}", "red")
    elif isinstance(error, ValueError):
        _complain(f"error: {error}", "red")
    else:
        _complain(f"error: {type(error).__name__}: {error} (--debug shows where)", "red")
    return 1


def _usage_error() -> type[Exception]:
    """Return the class of typer's own errors about what was typed; its module changed between versions of typer."""
    return typer.BadParameter.__bases__[0]


def _complain(text: str, style: str) -> None:
    from rich.console import Console

    Console(stderr=True, highlight=False).print(" ".join(text.split()), style=style, markup=False, soft_wrap=True)
