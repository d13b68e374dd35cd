"""What stage 7 keeps of its rollouts for people and for stage 9: some episodes as text, and snapshots of the policy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from instructloop.core.records import Prompt
from instructloop.files import canonical_json, naming, write_jsonl
from instructloop.runs import Run

if TYPE_CHECKING:
    from instructloop.train.rollouts import Actors, Episodes


class Kept(Protocol):
    """The settings it needs; stage 7's Config has them."""

    @property
    def num_samples_kept(self) -> int: ...
    @property
    def snapshot_every(self) -> int | None: ...


class EpisodeLog:
    """Writes `samples.jsonl` and `snapshots/NNN/`; what an interrupted go left of the iteration at hand is replaced."""

    def __init__(self, config: Kept, run: Run, actors: Actors, prompts: Sequence[Prompt], about: str):
        self.config = config
        self.run = run
        self.actors = actors
        self.prompts = prompts
        self.about = about
        self.has_written = False

    @property
    def outputs(self) -> list[str]:
        """Names of what there is in the run's folder."""
        return ["samples.jsonl"] * bool(self.config.num_samples_kept) + ["snapshots"] * bool(self.config.snapshot_every)

    def heard(self, iteration: int, chosen: Sequence[int], episodes: Episodes) -> None:
        """Keep what is wanted of a rollout; the policy is still the one that made it."""
        every = self.config.snapshot_every
        if every is not None and (iteration == 1 or iteration % every == 0):
            from instructloop.models.lm import save_lm

            about = f"{self.about} The policy that made rollout {iteration}."
            save_lm(self.actors.policy, self.actors.text, self.run.file(f"snapshots/{iteration:03d}"), about=about)
        if self.config.num_samples_kept:
            self._append(iteration, [self._row(iteration, chosen, episodes, b) for b in range(self._number(chosen))])

    def _number(self, chosen: Sequence[int]) -> int:
        return min(self.config.num_samples_kept, len(chosen))

    def _row(self, iteration: int, chosen: Sequence[int], episodes: Episodes, b: int) -> dict[str, Any]:
        rollout = episodes.rollout
        completion = rollout.tokens_BT[b, -rollout.mask_BC.shape[1] :][rollout.mask_BC[b]].tolist()
        return {
            "iteration": iteration,
            "prompt_id": self.prompts[chosen[b]].id,
            "prompt": self.prompts[chosen[b]].text,
            "completion": self.actors.text.decode(completion),
            "score": round(float(episodes.score_B[b]), 4),
            "kl": round(float(episodes.kl_B[b]), 4),
            "num_tokens": len(completion),
            "finished": bool(episodes.finished_B[b]),
        }

    def _append(self, iteration: int, rows: Sequence[dict[str, Any]]) -> None:
        path = self.run.file("samples.jsonl")
        if not self.has_written:
            self.has_written = True
            lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []  # the last may be torn
            write_jsonl(path, [row for row in map(json.loads, lines) if row["iteration"] < iteration])
        with naming(path), path.open("a", encoding="utf-8") as file:
            file.writelines(canonical_json(row) + "\n" for row in rows)
