"""The microworld's pretraining text and its base model, made from scratch in under two minutes on two cores."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

from instructloop.console import Console
from instructloop.microworld.corpus import documents
from instructloop.microworld.miniature import num_tokens
from instructloop.microworld.world import World
from instructloop.runs import Run
from instructloop.stages.prompts_file import read_rows, write_rows
from instructloop.workspace import Workspace


class TextConfig(BaseModel):
    """How much text the world writes, and how much of it no model learns from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_documents: int = Field(gt=0)
    num_heldout: int = Field(gt=0)
    max_heldout_tokens: int = Field(gt=0)  # they are scored whole, within the model's context
    seed: int


class BaseConfig(BaseModel):
    """A small Llama and how it is pretrained; nothing here is the paper's, which starts from GPT-3."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vocabulary: int = Field(gt=100)
    width: int = Field(gt=0)
    layers: int = Field(gt=0)
    heads: int = Field(gt=0)
    context: int = Field(gt=8)
    window_tokens: int = Field(gt=8)
    batch_rows: int = Field(gt=0)
    num_steps: int = Field(gt=0)
    lr: float = Field(gt=0)  # of Adam: embeddings and norms
    matrix_lr: float = Field(gt=0)  # of Muon: the matrices of attention and MLP
    warmup_steps: int = Field(ge=0)
    decay_from: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    seed: int


def write_text(
    config: TextConfig,
    *,
    workspace: Workspace,
    name: str,
    round: int,
    parents: Mapping[str, Run],
    console: Console,
    world: World,
    inputs: Mapping[str, str],
) -> Run:
    """Write `text.jsonl`, and `heldout.jsonl`, which is drawn from another seed and never trained on.

    `inputs` holds the hash of the world's prompts: text keeps clear of them, so other prompts mean other text.
    """
    started = Run.start(
        workspace.runs,
        "import",
        name=name,
        round=round,
        config=config.model_dump(mode="json"),
        parents=parents,
        inputs=inputs,
    )
    texts = documents(world, config.seed, config.num_documents)
    apart = documents(world, config.seed + 1_000_003, 4 * config.num_heldout)
    heldout = [one for one in apart if num_tokens(one) <= config.max_heldout_tokens][: config.num_heldout]
    write_rows(started.file("text.jsonl"), ({"text": one} for one in texts))
    write_rows(started.file("heldout.jsonl"), ({"text": one} for one in heldout))
    console.log(f"{name}: the world wrote {len(texts)} documents, and {len(heldout)} that stay unread")
    started.finish("text.jsonl", "heldout.jsonl", summary={"documents": len(texts), "held_out": len(heldout)})
    return started


def pretrain(
    config: BaseConfig, *, workspace: Workspace, name: str, round: int, parents: Mapping[str, Run], console: Console
) -> Run:
    """Make a tokenizer and a base model of the text; write `model/`."""
    started = Run.start(
        workspace.runs, "pretrain", name=name, round=round, config=config.model_dump(mode="json"), parents=parents
    )
    from instructloop.models.lm import save_lm
    from instructloop.models.scratch import new_lm
    from instructloop.models.words import word_tokenizer
    from instructloop.train import language
    from instructloop.train.checkpoint import Checkpoints

    texts = [row["text"] for row in read_rows(parents["text"].file("text.jsonl"))]
    text = word_tokenizer(texts, vocabulary=config.vocabulary)
    model = new_lm(
        text, width=config.width, layers=config.layers, heads=config.heads, context=config.context, seed=config.seed
    )
    settings = language.PretrainConfig(
        context=config.window_tokens,
        batch_rows=config.batch_rows,
        num_steps=config.num_steps,
        lr=config.lr,
        matrix_lr=config.matrix_lr,
        warmup_steps=config.warmup_steps,
        decay_from=config.decay_from,
        adam_betas=(0.9, 0.95),
        weight_decay=config.weight_decay,
        max_grad_norm=1.0,
        seed=config.seed,
    )
    num_tokens = config.num_steps * config.batch_rows * config.window_tokens
    with console.track(config.num_steps, name, unit="steps") as track:
        language.pretrain(model, language.pack(texts, text.document_ids), settings, started, track=track)
    save_lm(model, text, started.file("model"), about=f"A base model of the microworld (run {started.id}).")
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    started.finish("model", summary={"parameters": num_parameters, "tokens": num_tokens})
    Checkpoints(started.file("checkpoints"), started.id).clear()
    return started
