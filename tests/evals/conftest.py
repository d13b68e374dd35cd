"""A report as a microworld round writes it, and one of a run on real data, with invented figures."""

import hashlib
import math
import random

import pytest

from instructloop.evals.paper_results import paper_results

POLICIES = ("base", "base_prompted", "sft", "ppo", "ppo_ptx")


def judged(value: float, reach: float = 0.055, num_prompts: int = 120, per_prompt: int = 3) -> dict:
    return {
        "value": value,
        "low": max(0.0, value - reach),
        "high": value + reach,
        "n_prompts": num_prompts,
        "n_judgements": num_prompts * per_prompt,
    }


def share(value: float, reach: float = 0.04, n: int = 200) -> dict:
    low, high = (min(max(end, 0.0), 1.0) for end in (value - reach, value + reach))
    return {"value": value, "low": low, "high": high, "n": n, "n_clusters": n // 4}


def number(value: float, reach: float, n: int = 120) -> dict:
    return {"value": value, "low": value - reach, "high": value + reach, "n": n, "n_clusters": n}


def by_policy(make, *values: float, **options) -> dict:
    return {policy: make(value, **options) for policy, value in zip(POLICIES, values, strict=True)}


def sha(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


PROMPTS = [
    (
        "open_qa",
        "What sound does a cow make?",
        (
            "What sound does a horse make? What sound does a hen make? What sound does",
            "A cow makes a sound. The cow lives",
            "a cow says moo .",
            "A cow says moo.",
            "A cow says moo.",
        ),
    ),
    (
        "generation",
        "Write a short story about a fox and a baker.",
        (
            "Write a short story about a hen and a miller. Write a short story about",
            "the fox lived in the wood . the fox lived in the wood . the fox",
            "once there was a fox . the fox met a baker . the end .",
            "Once there was a hungry fox. It met a kind baker, and the baker gave it bread. They became friends.",
            "Once there was a hungry fox. A kind baker gave it some bread. The fox was happy.",
        ),
    ),
    (
        "closed_qa",
        "Read the text and answer.\nText: Anna has a red boat. Ben has a green hat.\nQuestion: Who has the hat?",
        ("Question: Who has the boat?", "Anna has the hat.", "Ben has the blue hat.", "Ben.", "Ben has the hat."),
    ),
    (
        "rewrite",
        "Say it politely: Go away, you dreck!",
        (
            "Go away, you dreck! Go away,",
            "Go away!",
            "please go away .",
            "Please leave me alone.",
            "Please leave me for now.",
        ),
    ),
    (
        "chat",
        "<script>alert('prompt')</script> & <b>bold</b> {{ 7 * 7 }} \u202egnippilf\u202c \x07",
        ("</script><script>alert(1)</script>", "", "\ud800 lone", "a" * 90, "مرحبا بالعالم"),
    ),
    (
        "brainstorming",
        "List three foods that are sweet.",
        (
            "List three foods that are sour.",
            "honey",
            "honey , honey , plum",
            "1. honey\n2. plum\n3. cake",
            "Honey, plum and cake.",
        ),
    ),
]


def samples() -> list[dict]:
    made = []
    for number_of, (category, prompt, texts) in enumerate(PROMPTS):
        completions = [
            {
                "policy": policy,
                "text": text,
                "finished": policy not in ("base",),
                "score": -1.2 + 0.7 * index,
                "gold": 1.4 + 1.1 * index,
                "rating": min(7.0, 1.7 + 1.05 * index),
                "flags": ["fails_instruction"] if index < 2 else [],
            }
            for index, (policy, text) in enumerate(zip(POLICIES, texts, strict=True))
        ]
        made.append(
            {
                "prompt_id": f"prompt-{sha(prompt)[:16]}" if "\ud800" not in prompt else "p",
                "prompt": prompt,
                "category": category,
                "completions": completions,
            }
        )
        assert number_of < 99
    return made


def lineage() -> dict:
    parents = {
        "base": {},
        "prompts": {},
        "demonstrations": {"prompts": "prompts"},
        "sft": {"base": "base", "demonstrations": "demonstrations"},
        "ppo_init": {"base": "base", "demonstrations": "demonstrations", "pretraining": "corpus"},
        "corpus": {},
        "samples": {"prompts": "prompts", "policy.sft": "sft", "policy.base": "base"},
        "rankings": {"samples": "samples"},
        "reward": {"init": "sft", "rankings": "rankings", "demonstrations": "demonstrations"},
        "ppo": {"init": "ppo_init", "reward": "reward", "prompts": "prompts"},
        "ppo_ptx": {"init": "ppo_init", "reward": "reward", "prompts": "prompts", "pretraining": "corpus"},
    }
    stages = {
        "base": "import",
        "corpus": "import",
        "prompts": "s1_prompts",
        "demonstrations": "s2_demonstrations",
        "sft": "s3_sft",
        "ppo_init": "s3_sft",
        "samples": "s4_samples",
        "rankings": "s5_rankings",
        "reward": "s6_reward",
        "ppo": "s7_ppo",
        "ppo_ptx": "s7_ppo",
    }
    identity = {name: f"r01-{name}-{sha(name)[:8]}" for name in parents}
    runs = {
        identity[name]: {
            "name": name,
            "stage": stages[name],
            "round": 1,
            "parents": {role: identity[parent] for role, parent in of.items()},
            "inputs": {"rankings.jsonl (frozen)": sha("labels")} if name == "rankings" else {},
            "outputs": {"model": sha(name + "out")}
            if stages[name] in ("s3_sft", "s6_reward", "s7_ppo", "import")
            else {f"{name}.jsonl": sha(name + "out")},
            "seconds": 3.0 + len(name) * 4.1,
        }
        for name, of in parents.items()
    }
    return {"roots": {"ppo_ptx": identity["ppo_ptx"], "ppo": identity["ppo"], "sft": identity["sft"]}, "runs": runs}


def curve(start: float, end: float, steps: int, seed: int, noise: float = 0.08) -> list[list[float]]:
    draw = random.Random(seed)
    return [
        [step, end + (start - end) * math.exp(-4 * step / steps) + draw.gauss(0, noise * abs(start - end))]
        for step in range(steps)
    ]


def microworld() -> dict:
    drift = {
        name: [
            {
                "iteration": 10 * i,
                "kl": 0.55 * i * k,
                "proxy": 2.4 * (1 - math.exp(-0.45 * i)),
                "gold": 4.6 + 0.42 * i - 0.058 * k * i * i,
                "gold_low": 4.4 + 0.42 * i - 0.058 * k * i * i,
                "gold_high": 4.8 + 0.42 * i - 0.058 * k * i * i,
            }
            for i in range(9)
        ]
        for name, k in (("ppo", 1.25), ("ppo_ptx", 0.9))
    }
    return {
        "title": "Microworld",
        "seed": 1,
        "simulated": True,
        "wall_seconds": 437.2,
        "summary": (
            "The policy learned to stop, to answer the question that was asked, and to be polite. "
            "It still invents facts on closed-domain questions more often than SFT does."
        ),
        "notes": ["Bias entropy moved with certainty, not with preference: the same pattern shows on neutral pairs."],
        "policies": {
            "base": "Base",
            "base_prompted": "Base, prompted",
            "sft": "SFT",
            "ppo": "PPO",
            "ppo_ptx": "PPO-ptx",
        },
        "win_rate_vs_sft": {**by_policy(judged, 0.152, 0.263, 0.5, 0.618, 0.637), "sft": judged(0.5, 0.0)},
        "gold_win_rate_vs_sft": {
            **by_policy(judged, 0.118, 0.241, 0.5, 0.602, 0.615, reach=0.048, per_prompt=1),
            "sft": judged(0.5, 0.0),
        },
        "length_controlled_win_rate_vs_sft": {
            k: judged(v, 0.07) for k, v in {"base": 0.17, "base_prompted": 0.27, "ppo": 0.59, "ppo_ptx": 0.612}.items()
        },
        "reward_score": by_policy(number, -1.2, -0.4, 0.1, 1.3, 1.1, reach=0.2),
        "finished": by_policy(share, 0.2, 0.4, 0.9, 0.99, 0.98),
        "completion_tokens": by_policy(number, 31.0, 22.5, 12.1, 15.9, 15.2, reach=1.1),
        "win_rate_by_category": {
            category: {
                k: judged(min(0.95, v + shift), 0.16, 14)
                for k, v in {"base": 0.15, "base_prompted": 0.26, "ppo": 0.62, "ppo_ptx": 0.64}.items()
            }
            for category, shift in (
                ("generation", 0.05),
                ("open_qa", 0.0),
                ("brainstorming", 0.03),
                ("chat", -0.04),
                ("rewrite", 0.06),
                ("closed_qa", -0.15),
            )
        },
        "likert": by_policy(judged, 2.21, 2.95, 4.38, 4.92, 5.01, reach=0.21),
        "flags": {
            "fails_instruction": by_policy(judged, 0.71, 0.52, 0.18, 0.11, 0.10),
            "inappropriate_for_assistant": by_policy(judged, 0.24, 0.19, 0.10, 0.06, 0.05, reach=0.04),
            "hallucination": by_policy(judged, 0.44, 0.36, 0.12, 0.20, 0.17, reach=0.08, num_prompts=34),
            "satisfies_constraint": by_policy(judged, 0.15, 0.21, 0.44, 0.55, 0.57, reach=0.09, num_prompts=30),
            "violent_content": by_policy(judged, 0.0, 0.0, 0.0, 0.0, 0.0, reach=0.011),
            "expresses_opinion": by_policy(judged, 0.02, 0.02, 0.01, 0.01, 0.02, reach=0.014),
        },
        "reward_model": {
            "accuracy_seen_labelers": number(0.701, 0.012, 5230),
            "accuracy_unseen_labelers": number(0.689, 0.019, 5230),
            "accuracy_gold": number(0.762, 0.02, 1800),
        },
        "agreement": {"train": number(0.729, 0.011, 4021), "heldout": number(0.768, 0.019, 1204)},
        "truthfulness": {
            mode: {
                "true": by_policy(share, *(min(0.97, v + d) for v in (0.31, 0.35, 0.52, 0.57, 0.56))),
                "true_and_informative": by_policy(share, *(v + d / 3 for v in (0.24, 0.27, 0.47, 0.53, 0.52))),
            }
            for mode, d in (("qa", 0.0), ("instruction_qa", 0.18), ("instruction", 0.09))
        },
        "hallucination": {
            "labelers": by_policy(share, 0.44, 0.36, 0.12, 0.20, 0.17, reach=0.08),
            "judge": by_policy(share, 0.47, 0.39, 0.13, 0.22, 0.18, reach=0.06),
        },
        "rudeness": {
            mode: by_policy(share, *values)
            for mode, values in {
                "basic": (0.22, 0.2, 0.12, 0.1, 0.11),
                "respectful": (0.21, 0.18, 0.06, 0.03, 0.04),
                "biased": (0.28, 0.3, 0.34, 0.41, 0.39),
            }.items()
        },
        "bias_entropy_bits": {
            mode: by_policy(number, *values, reach=0.03)
            for mode, values in {
                "basic": (0.74, 0.73, 0.61, 0.58, 0.66),
                "respectful": (0.75, 0.74, 0.57, 0.55, 0.61),
            }.items()
        },
        "alignment_tax": {
            "cloze_0_shot": by_policy(share, 0.96, 0.95, 0.93, 0.72, 0.94, reach=0.02),
            "closed_qa_0_shot": by_policy(share, 0.55, 0.57, 0.62, 0.44, 0.58),
            "closed_qa_few_shot": by_policy(share, 0.91, 0.91, 0.83, 0.52, 0.88),
            "translation_few_shot": by_policy(number, 61.2, 61.0, 54.4, 33.9, 57.8, reach=3.1),
            "corpus_loss": by_policy(number, 0.742, 0.742, 0.861, 1.074, 0.779, reach=0.012),
        },
        "alignment_tax_tasks": {
            "cloze_0_shot": {"title": "Cloze, 0-shot", "metric": "accuracy", "paper": "hellaswag_0_shot"},
            "closed_qa_0_shot": {"title": "Closed QA, 0-shot", "metric": "F1", "paper": "squadv2_0_shot"},
            "closed_qa_few_shot": {"title": "Closed QA, few-shot", "metric": "F1", "paper": "squadv2_few_shot"},
            "translation_few_shot": {"title": "Translation, few-shot", "metric": "BLEU", "paper": "fr_en_few_shot"},
            "corpus_loss": {"title": "Corpus", "metric": "nats per token", "is_higher_better": False},
        },
        "kl": {
            name: {"final": end, "curve": curve(0, end, 60, seed)}
            for name, end, seed in (("ppo", 3.9, 1), ("ppo_ptx", 3.1, 2))
        },
        "overoptimisation": drift,
        "curves": {
            "loss/lm": {"sft": curve(3.2, 0.9, 120, 3), "ppo_init": curve(3.2, 1.3, 60, 4)},
            "loss/reward": {"reward": curve(0.72, 0.55, 90, 5, 0.2)},
            "accuracy": {"reward": curve(0.5, 0.71, 90, 6, 0.2)},
            "objective/scores": {"ppo": curve(0.0, 2.1, 60, 7), "ppo_ptx": curve(0.0, 1.9, 60, 8)},
            "completion/length": {"ppo": curve(12.0, 16.0, 60, 9), "ppo_ptx": curve(12.0, 15.0, 60, 10)},
            "loss/ptx": {"ppo_ptx": curve(0.9, 0.77, 60, 11)},
        },
        "samples": samples(),
        "lineage": lineage(),
        "config": {
            "sft": {"lr": 0.001, "num_epochs": 6, "batch_rows": 16},
            "ppo": {"kl_coef": 0.2, "clip_ratio": 0.2, "lam": 0.95, "note": "</pre><script>alert(2)</script>"},
        },
        "counts": {
            "prompts: kept": 1180,
            "prompts: dropped duplicate": 96,
            "demonstrations: rows": 300,
            "rankings: rows": 1000,
            "rankings: comparisons": 8123,
            "held_out_prompts": 120,
        },
        "steps": [
            {"step": name, "run": f"r01-{name}-{sha(name)[:8]}", "seconds": seconds}
            for name, seconds in (
                ("prompts", 0.8),
                ("base", 104.0),
                ("sft", 4.1),
                ("reward", 61.5),
                ("ppo", 70.2),
                ("ppo_ptx", 88.0),
                ("evaluation", 66.0),
            )
        ],
        "paper": paper_results(),
        "machine": {"machine": "2 cores, x86_64", "python": "3.11.2", "torch": "2.13.0"},
    }


def real() -> dict:
    texts = {
        "base": "The the answer is yes. The answer is yes.",
        "sft": "I went to school yesterday.",
        "ppo_ptx": "I went to school yesterday.",
    }
    return {
        "title": "SmolLM2-135M on short instructions and oasst1",
        "seed": 1,
        "simulated": False,
        "wall_seconds": 3104.0,
        "policies": {"base": "SmolLM2-135M-Instruct"},
        "reward_model": {
            "accuracy_heldout": number(0.584, 0.041, 610),
            "by_source": {"oasst1": number(0.631, 0.09, 110), "hh-rlhf": number(0.574, 0.045, 500)},
            "baselines": {"longer wins": number(0.541, 0.042, 610)},
        },
        "reward_score": {"base": number(-0.2, 0.1), "sft": number(0.0, 0.1), "ppo_ptx": number(0.3, 0.1)},
        "held_out_loss": {
            "wikitext": {name: number(v, 0.05, 9000) for name, v in (("base", 3.21), ("sft", 3.29), ("ppo_ptx", 3.24))}
        },
        "kl": {"ppo_ptx": {"final": 2.2, "curve": curve(0, 2.2, 24, 3)}},
        "overoptimisation": {"ppo_ptx": [{"iteration": i, "kl": 0.2 * i, "proxy": 0.1 * i} for i in range(6)]},
        "curves": {"loss/lm": {"sft": curve(2.4, 1.7, 300, 2)}, "objective/scores": {"ppo_ptx": curve(0, 0.7, 24, 5)}},
        "samples": [
            {
                "prompt_id": "p1",
                "prompt": "Correct the grammar: I goed to school yesterday.",
                "completions": [{"policy": name, "text": text} for name, text in texts.items()],
            }
        ],
    }


@pytest.fixture
def microworld_report() -> dict:
    return microworld()


@pytest.fixture
def real_report() -> dict:
    return real()
