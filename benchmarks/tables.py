"""The tables of docs/ from the newest results: python -m benchmarks.tables writes them into their documents.

A table stands between `<!-- table NAME -->` and `<!-- end -->`; what is between is replaced, all else stays.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measuring import RESULTS, ROOT, latest

DOCUMENTS = (ROOT / "docs" / "performance.md", ROOT / "docs" / "real-data.md")
PLACE = re.compile(r"(<!-- table ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
PEERS = {
    "ppo-fixed": ("PPO, 64 episodes of 32 + 64 tokens, 5.8M", 3.0),
    "ppo-fixed-8": ("the same in 8 minibatches", None),
    "ppo-natural": ("PPO, 64 episodes, EOS after 20 tokens on average, at most 64, 5.8M", 5.0),
    "ppo-smollm2": ("PPO, 16 episodes of 32 + 64 tokens, SmolLM2-135M's shape", 3.0),
    **{
        f"reward-{k}": (f"reward model, K = {k}, 2 prompts a step, 5.8M", 8.0 if k == 9 else None) for k in range(4, 10)
    },
    "sft": ("SFT, a step of 32 demonstrations of FairytaleQA's lengths, 5.8M", 1.5),
}
"""Workloads of the comparison, in the table's order: what each is, and how many times TRL's speed is wanted."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; numbers on the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def conditions(results: Iterable[Mapping[str, Any]]) -> str:
    """Return under what the results came about: each machine, versions and commit once."""
    seen = dict[str, None]()
    for one in results:
        on, made = one["machine"], one["versions"]
        seen[
            f"{one['date'][:10]}, {on['processor']}, {on['cores']} cores, {on['memory_gibibytes']} GiB, "
            f"Python {on['python']}, torch {made['torch']}, transformers {made['transformers']}, "
            f"instructloop {made['instructloop']}"
        ] = None
    return "\nMeasured: " + "; ".join(seen) + ".\n" if seen else "\nNot measured yet.\n"


def seconds(value: float) -> str:
    """Return seconds with three digits that count."""
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def plain(setting: str) -> str:
    """Return a setting of the command line in words."""
    words = setting.replace("--precision ", "").replace("--", "").replace("instructloop ", "").replace("trl ", "")
    return words or "float32"


def times(ratio: Mapping[str, float]) -> str:
    """Return a ratio with its range."""
    return f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})"


def peers(folder: Path) -> str:
    """Return the comparison with TRL: the fastest setting of each side, and the ratio beside what is wanted."""
    found = [(name, result) for name in PEERS if (result := latest(f"peers-{name}", folder))]
    rows = []
    for name, result in found:
        what, wanted = PEERS[name]
        theirs, ours = result["found"]["of"]
        arms, kept = result["found"]["arms"], result["found"].get("kept")
        rows.append(
            [
                what,
                seconds(arms[theirs]["median"]),
                plain(theirs),
                seconds(arms[kept]["median"]) if kept else "",
                seconds(arms[ours]["median"]),
                plain(ours),
                times(result["found"]["times_as_fast"]),
                times(result["found"]["times_as_fast_kept"]) if kept else "",
                "" if wanted is None else f"{wanted:g}",
                f"{arms[theirs]['peak_mebibytes']} / {arms[ours]['peak_mebibytes']}",
            ]
        )
    head = ["work", "TRL, s", "at", "with our memory settings", "instructloop, s", "at", "times as fast"]
    head += ["with our memory settings", "wanted", "peak MiB"]
    return table(head, rows) + conditions(result for _, result in found)


def settings(folder: Path) -> str:
    """Return what TRL was tried with, once each: the choice of its best setting."""
    found = [(name, result) for name in PEERS if (result := latest(f"tuning-{name}", folder))]
    rows = [
        [PEERS[name][0], plain(arm), seconds(one["median"]), str(one["peak_mebibytes"])]
        for name, result in found
        for arm, one in result["found"]["arms"].items()
        if arm.startswith("trl")
    ]
    return table(["work", "setting", "s", "peak MiB"], rows) + conditions(result for _, result in found)


def phases(folder: Path) -> str:
    """Return the seconds of each phase of an iteration and the shares of the bounds."""
    result = latest("ppo-iteration", folder)
    rows = [
        [
            f"{PEERS[one['workload']][0]}, {plain(setting)}",
            *(seconds(arm["seconds"][phase]) for phase in ("rollout", "score", "update")),
            seconds(arm["median"]),
            str(arm["tokens_per_second"]),
            *(percent(arm["arithmetic_share"][phase]) for phase in ("score", "update", "all")),
            percent(arm["decoding_bandwidth_share"]),
            str(arm["peak_mebibytes"]),
        ]
        for one in (result["found"] if result else ())
        for setting, arm in one["arms"].items()
    ]
    head = ["iteration", "rollout, s", "score, s", "update, s", "all, s", "tokens/s", "score, of the matrix rate"]
    head += ["update", "all", "rollout, of the memory rate", "peak MiB"]
    return table(head, rows) + rate(result) + conditions([result] if result else ())


def rate(result: Mapping[str, Any] | None) -> str:
    """Return the rates that the shares are of."""
    if not result:
        return ""
    found = result["rates"]
    return (
        f"\nRates with {found['threads']} threads: products {found['gigaflops_float32']} GFLOP/s in float32, "
        f"{found['gigaflops_bfloat16']} in bfloat16; copies {found['copy_gigabytes']} GB/s.\n"
    )


GROWN = {
    "episodes": "episodes of a PPO iteration",
    "length": "tokens of an episode",
    "completions_per_prompt": "K of a reward model's step",
    "weights": "weights in matrices, PPO iteration",
}


def growth(folder: Path) -> str:
    """Return what doubling costs."""
    result = latest("growth", folder)
    rows = []
    for one in result["found"] if result else ():
        base, *grown = [arm["median"] for arm in one["arms"].values()]
        cells = [
            f"{number:,}: {seconds(value)} s" for number, value in zip(one["amounts"], (base, *grown), strict=True)
        ]
        rows.append([GROWN[one["what"]], *cells, *(times(ratio) for ratio in one["times_the_base"][1:])])
    head = ["what grows", "base", "twice", "four times", "cost of twice", "cost of four times"]
    return table(head, rows) + conditions([result] if result else ())


def decoding(folder: Path) -> str:
    """Return tokens a second of sampling beside the best of `generate`, and the shares of the bounds."""
    result = latest("decoding", folder)
    rows = []
    for one in result["found"] if result else ():
        for arm, compared in one.get("times_the_best_peer", {}).items():
            share = one["share_of_bound"][arm]
            rows.append(
                [
                    f"{one['case']}: {one['prompts']} prompts, {one['rows']} rows, {one['shape']}",
                    f"{one['tokens_per_second'][one['best_peer']]:,}",
                    one["best_peer"],
                    f"{one['tokens_per_second'][arm]:,}",
                    plain(arm),
                    times(compared),
                    percent(share["memory"]),
                    percent(share["products"]),
                ]
            )
    head = ["what is decoded", "`generate`, tokens/s", "at", "instructloop", "at", "times as fast"]
    head += ["of the memory rate", "of the matrix rate"]
    return table(head, rows) + rate(result) + conditions([result] if result else ())


def percent(share: float) -> str:
    """Return a share as a percentage."""
    return f"{100 * share:.0f} %"


def training_step(folder: Path) -> str:
    """Return real tokens a second of forward and backward, padded, packed and with a prompt computed once."""
    names = [f"training_step-{size}-{dtype}" for size in ("small", "135m") for dtype in ("float32", "bfloat16")]
    found = [result for name in names if (result := latest(name, folder))]
    arms = ("padded", "packed", "shared")
    rows = [
        [
            f"{one['loss']}, {result['size']}, {result['dtype']}",
            *(f"{one['tokens_per_second'][arm]:,.0f}" if arm in one["tokens_per_second"] else "" for arm in arms),
            *(times(one["ratio"][arm]) if arm in one["ratio"] else "" for arm in arms[1:]),
        ]
        for result in found
        for one in result["found"]
    ]
    head = ["loss", "padded, tokens/s", "packed", "prompt computed once", "packed, times as fast", "prompt once"]
    return table(head, rows) + conditions(found)


PREFERENCES = ("humour", "ethics-util", "hh-rlhf", "ukp-arguments", "oasst1-ranked", "stackexchange-ranked")


def interval(found: Mapping[str, Any], digits: int = 3) -> str:
    """Return a value with its 95 % interval."""
    low, high = ("?" if found[end] is None else f"{found[end]:.{digits}f}" for end in ("low", "high"))
    return f"{found['value']:.{digits}f} [{low}, {high}]"


def reward_models(folder: Path) -> str:
    """Return what reward models foretell of held-out rankings, beside a bag of words and the length."""
    found = [result for name in PREFERENCES if (result := latest(f"real-data-{name}", folder))]
    rows = []
    for one in (result["found"] for result in found):
        summary = one["summaries"]["reward"]
        accuracy = summary["accuracy_heldout"]
        rows.append(
            [
                one["study"],
                f"{summary['comparisons']:,}",
                interval(accuracy),
                f"{accuracy['n']:,}",
                "" if one["tfidf"] is None else f"{one['tfidf']:.3f}",
                interval(summary["baselines"]["longer"]),
                "" if summary["length_correlation"] is None else f"{summary['length_correlation']:.2f}",
            ]
        )
    head = ["rankings", "comparisons learned", "held-out accuracy", "n", "TF-IDF", "longer wins", "score with length"]
    return table(head, rows) + conditions(found)


def policies(folder: Path) -> str:
    """Return what SFT and PPO changed on what was held out."""
    names = ("sft-fairytaleqa", "ppo", "ppo-ptx")
    found = [result for name in names if (result := latest(f"real-data-{name}", folder))]
    rows = []
    for one in (result["found"] for result in found):
        [held_out] = [summary for name, summary in one["summaries"].items() if name.endswith("-held-out")]
        trained = next(iter(one["summaries"].values()))
        for what, name in (("loss", "loss"), ("score", "score"), ("loss on WikiText-2", "text_loss")):
            if name in held_out:
                of = held_out[name]
                cells = [interval(of[role]) for role in ("before", "after", "difference")]
                kl = f"{trained['last_kl']:.2f}" if name == "score" else ""
                rows.append([f"{one['study']}, {what}", *cells, kl, f"{of['after']['n']:,}"])
    head = ["held out", "before", "after", "difference", "KL at the end", "n"]
    return table(head, rows) + conditions(found)


TABLES: dict[str, Callable[[Path], str]] = {
    "peers": peers,
    "settings": settings,
    "phases": phases,
    "decoding": decoding,
    "training-step": training_step,
    "growth": growth,
    "reward-models": reward_models,
    "policies": policies,
}


def rendered(document: str, folder: Path = RESULTS) -> str:
    """Return the document with every table made anew; ValueError for a name that no table has."""

    def made(found: re.Match[str]) -> str:
        if found[2] not in TABLES:
            raise ValueError(f"no table is called {found[2]}; there are {', '.join(TABLES)}")
        return found[1] + TABLES[found[2]](folder) + found[3]

    return PLACE.sub(made, document)


if __name__ == "__main__":
    for document in DOCUMENTS:
        document.write_text(rendered(document.read_text()))
