"""The microworld's text and base model as runs: the same for equal seeds, and plain text is learned from them."""

import json
from pathlib import Path

import torch

from instructloop.console import Quiet
from instructloop.microworld.world import world_of
from instructloop.models.lm import load_lm
from instructloop.recipes import microworld_base as base
from instructloop.runs import Run
from tests.stages.small import workspace

WORLD = world_of(2)
TEXT = base.TextConfig(num_documents=400, num_heldout=20, max_heldout_tokens=96, seed=1)
SMALL = base.BaseConfig(
    vocabulary=1000,
    width=32,
    layers=1,
    heads=2,
    context=96,
    window_tokens=48,
    batch_rows=16,
    num_steps=60,
    lr=8e-3,
    matrix_lr=0.03,
    warmup_steps=5,
    decay_from=0.5,
    weight_decay=0.1,
    seed=1,
)


def written(space) -> Run:
    return base.write_text(
        TEXT, workspace=space, name="pretraining", round=1, parents={}, console=Quiet(), world=WORLD, inputs={}
    )


def trained(space, text: Run, config: base.BaseConfig = SMALL) -> Run:
    return base.pretrain(config, workspace=space, name="base", round=1, parents={"text": text}, console=Quiet())


def test_text_is_written_once_and_what_is_held_out_is_apart(tmp_path: Path):
    run = written(workspace(tmp_path))
    kept, heldout = (
        [json.loads(line)["text"] for line in run.file(name).read_text().splitlines()]
        for name in ("text.jsonl", "heldout.jsonl")
    )
    assert (len(kept), len(heldout)) == (400, 20)
    assert not set(kept) & set(heldout)


def test_equal_configurations_make_equal_models(tmp_path: Path):
    quick = SMALL.model_copy(update={"num_steps": 3})
    runs: list[Run] = []
    for name in ("one", "two"):
        space = workspace(tmp_path / name)
        runs.append(trained(space, written(space), quick))
    assert runs[0].outputs == runs[1].outputs


def test_a_base_model_learns_the_words_of_its_world(tmp_path: Path):
    space = workspace(tmp_path)
    run = trained(space, written(space))
    model, text = load_lm(run.file("model"))
    assert 400 < len(text.tokenizer) <= SMALL.vocabulary
    document = torch.tensor([text.document_ids("the fox lives in the forest. the cow eats bread.")])
    with torch.no_grad():
        loss = float(model(document, labels=document).loss)
    assert loss < 4.5  # a model that has learned nothing: ln 600 = 6.4
