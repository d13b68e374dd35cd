"""The project folder: loop.yaml checked key by key, overrides merged into frozen configurations."""

import pickle
from pathlib import Path
from typing import Literal

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from instructloop.workspace import Workspace, merge_overrides, parse_set


class Adam(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    lr: float = Field(gt=0)
    betas: tuple[float, float]


class PPO(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    kl_coef: float = Field(ge=0)
    iterations: int
    kl: Literal["fixed", "adaptive"]
    whiten: bool
    policy: Adam
    value: Adam | None

    @model_validator(mode="after")
    def _needs_work(self) -> "PPO":
        if self.iterations < 1:
            raise ValueError(f"iterations {self.iterations} must be at least 1")
        return self


ADAM = Adam(lr=1e-5, betas=(0.9, 0.95))
CONFIG = PPO(kl_coef=0.02, iterations=4, kl="fixed", whiten=True, policy=ADAM, value=None)


def written(tmp_path: Path, text: str) -> Path:
    (tmp_path / "loop.yaml").write_text(text)
    return tmp_path


def test_a_new_workspace_opens_again_as_it_was_made(tmp_path: Path):
    (tmp_path / "labels").mkdir()
    Workspace.create(tmp_path / "demo", "real", {"ppo": {"kl_coef": 0.05}}, seed=3, data=tmp_path / "labels")
    workspace = Workspace.open(tmp_path / "demo")
    assert (workspace.recipe, workspace.seed, workspace.round) == ("real", 3, 1)
    assert workspace.overrides == {"ppo": {"kl_coef": 0.05}}
    assert workspace.data == tmp_path / "labels"
    assert workspace.runs.is_dir()
    assert workspace.published == {}
    assert workspace.now().tzinfo is not None


def test_a_workspace_is_not_made_over_another(tmp_path: Path):
    Workspace.create(tmp_path, "microworld")
    before = (tmp_path / "loop.yaml").read_text()
    with pytest.raises(ValueError, match=r"loop\.yaml exists already"):
        Workspace.create(tmp_path, "real")
    assert (tmp_path / "loop.yaml").read_text() == before


@pytest.mark.parametrize(
    ("arguments", "rule"), [({"seed": -1}, "seed = -1"), ({"data": Path("/no/such")}, "is no folder")]
)
def test_a_wrong_value_makes_no_workspace(tmp_path: Path, arguments: dict, rule: str):
    with pytest.raises(ValueError, match=rule):
        Workspace.create(tmp_path / "demo", "microworld", **arguments)
    assert not (tmp_path / "demo").exists()


def test_a_folder_that_is_no_workspace_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match=f"{tmp_path} is no workspace: it has no loop.yaml"):
        Workspace.open(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed: 1\nround: 1", "recipe is missing"),
        ("recipe: microworld\nround: 1", "seed is missing"),
        ("recipe: m\nseed: 1\nround: 1\nrecpie: x", "recpie is no key; did you mean recipe?"),
        ("recipe: m\nseed: 1\nround: 1\nqqqq: x", "known are recipe, seed, round, set, data"),
        ("recipe: m\nseed: 1\nround: 1\noverrides: {}", "overrides is no key"),
        ("recipe: m\nseed: one\nround: 1", "seed = 'one': input should be a valid integer"),
        ("recipe: m\nseed: true\nround: 1", "seed = True"),
        ("recipe: m\nseed: 1\nround: 0", "round = 0: input should be greater than or equal to 1"),
        ("recipe: m\nseed: 1\nround: 1\nset: {ppo: 3}", "set.ppo = 3"),
        ("recipe: 3\nseed: 1\nround: 1", "recipe = 3"),
        ("recipe: m\nseed: 1\nseed: 2\nround: 1", "line 1: seed stands twice"),
        ("recipe: m\nseed: 1\nround: 1\npeople: ap", "people = 'ap': input should be 'simulated' or 'app'"),
        ("recipe: [", "cannot be read: line 1"),
        ("", "must be a mapping with at least `recipe: NAME`, not nothing"),
        ("1: 2", "every key must be a word, not 1"),
    ],
)
def test_a_wrong_loop_file_is_refused_with_file_key_and_rule(tmp_path: Path, text: str, said: str):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the text is checked below, as it is
        Workspace.open(written(tmp_path, text))
    assert str(error.value).startswith(str(tmp_path / "loop.yaml"))
    assert said in str(error.value)


def test_people_are_simulated_unless_the_file_says_that_they_work_in_the_app(tmp_path: Path):
    assert not Workspace.create(tmp_path / "default", "x").waits_for_people
    assert "people" not in (tmp_path / "default" / "loop.yaml").read_text()
    assert Workspace.create(tmp_path / "app", "x", people="app").waits_for_people
    assert Workspace.open(tmp_path / "app").waits_for_people


def test_the_environment_names_the_database_of_people_in_the_app_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    default, app = Workspace.create(tmp_path / "default", "x"), Workspace.create(tmp_path / "app", "x", people="app")
    monkeypatch.delenv("DATABASE_URL", raising=False)
    assert app.store_place == tmp_path / "app" / "store.sqlite"
    monkeypatch.setenv("DATABASE_URL", "postgresql://somewhere/labels")
    assert app.store_place == "postgresql://somewhere/labels"
    assert default.store_place == tmp_path / "default" / "store.sqlite"


def test_a_number_without_a_dot_is_a_number(tmp_path: Path):
    workspace = Workspace.open(written(tmp_path, "recipe: m\nseed: 1\nround: 1\nset:\n  sft: {lr: 1e-5, name: e5}"))
    assert workspace.overrides == {"sft": {"lr": 1e-5, "name": "e5"}}


def test_an_empty_set_overrides_nothing(tmp_path: Path):
    assert Workspace.open(written(tmp_path, "recipe: m\nseed: 1\nround: 1\nset:")).overrides == {}


def test_overrides_of_the_command_win_over_the_file_and_do_not_enter_it(tmp_path: Path):
    Workspace.create(tmp_path, "microworld", {"ppo": {"kl_coef": 0.05, "lam": 0.9}})
    workspace = Workspace.open(tmp_path).with_overrides({"ppo": {"kl_coef": 0.1}, "sft": {"epochs": 2}})
    assert workspace.overrides == {"ppo": {"kl_coef": 0.1, "lam": 0.9}, "sft": {"epochs": 2}}
    assert yaml.safe_load((tmp_path / "loop.yaml").read_text())["set"] == {"ppo": {"kl_coef": 0.05, "lam": 0.9}}


def test_a_workspace_can_be_handed_to_another_process(tmp_path: Path):
    workspace = Workspace.create(tmp_path, "microworld").with_overrides({"ppo": {"kl_coef": 0.1}})
    assert pickle.loads(pickle.dumps(workspace)).overrides == {"ppo": {"kl_coef": 0.1}}


def test_set_reads_values_as_the_file_does():
    assert parse_set(["ppo.kl_coef=1e-2", "ppo.policy.lr=3", "sft.note=a=b", "sft.betas=[0.9, 0.99]"]) == {
        "ppo": {"kl_coef": 0.01, "policy.lr": 3},
        "sft": {"note": "a=b", "betas": [0.9, 0.99]},
    }


@pytest.mark.parametrize("text", ["ppo", "ppo=1", "kl_coef=.1", "ppo.kl_coef"])
def test_a_setting_in_another_form_is_refused(text: str):
    with pytest.raises(ValueError, match=r"must read step\.field=value"):
        parse_set([text])


def test_overrides_reach_nested_fields_by_dots_and_by_mappings():
    merged = merge_overrides(CONFIG, {"kl_coef": 0.5, "policy.lr": 1, "policy": {"betas": [0.8, 0.9]}})
    assert merged == PPO(
        kl_coef=0.5, iterations=4, kl="fixed", whiten=True, policy=Adam(lr=1.0, betas=(0.8, 0.9)), value=None
    )
    assert CONFIG.policy.lr == 1e-5


def test_a_missing_part_can_be_given_whole():
    merged = merge_overrides(CONFIG, {"value": {"lr": 0.1, "betas": [0.9, 0.95]}})
    assert merged.value == Adam(lr=0.1, betas=(0.9, 0.95))


def test_no_override_changes_nothing():
    assert merge_overrides(CONFIG, {}) == CONFIG


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"kl_coeff": 1}, "ppo.kl_coeff is no field; did you mean kl_coef?"),
        ({"policy.lrr": 1}, "ppo.policy.lrr is no field; did you mean lr?"),
        ({"kl_coef": -1}, "ppo.kl_coef = -1: input should be greater than or equal to 0"),
        ({"kl_coef": True}, "ppo.kl_coef = True: input should be a valid number"),
        ({"iterations": "4"}, "ppo.iterations = '4': input should be a valid integer"),
        ({"iterations": 0}, "ppo.iterations 0 must be at least 1"),
        ({"kl": "fxed"}, "ppo.kl = 'fxed': input should be 'fixed' or 'adaptive'"),
        ({"policy.lr": None}, "ppo.policy.lr = nothing: input should be a valid number"),
        ({"policy.betas": [1]}, "ppo.policy.betas.1 is missing"),
        ({"kl_coef.x": 1}, "ppo.kl_coef has no fields inside, so ppo.kl_coef.x cannot be set"),
        ({"value.lr": 1}, "ppo.value is nothing now: give all of it at once"),
    ],
)
def test_a_wrong_override_names_field_value_and_rule(overrides: dict, said: str):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the text is checked below, as it is
        merge_overrides(CONFIG, overrides, where="ppo")
    assert said in str(error.value)
