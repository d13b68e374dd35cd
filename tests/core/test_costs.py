"""Costs by hand for a transformer of round numbers."""

import pytest

from instructloop.core.costs import (
    Machine,
    Sampling,
    Shape,
    Training,
    activation_bytes,
    adapter_parameters,
    cache_bytes,
    forward_flops,
    network_bytes,
    recomputed_bytes,
    sampling_seconds,
)

SHAPE = Shape(
    parameters=1000,
    embeddings=300,
    layers=2,
    width=10,
    heads=2,
    groups=1,
    head_width=5,
    inner=20,
    vocabulary=30,
)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (Training(4, 1000, False), {"weights": 4000, "masters": 0, "gradients": 4000, "optimizer": 8000}),
        (Training(2, 1000, False), {"weights": 2000, "masters": 4000, "gradients": 4000, "optimizer": 8000}),
        # 40 parameters of an adapter in float32 beside 1000 weights in bfloat16
        (Training(2, 40, True), {"weights": 2160, "masters": 0, "gradients": 160, "optimizer": 320}),
    ],
)
def test_a_network_is_16_bytes_a_weight_or_18_with_masters_or_hardly_more_than_its_weights(how, expected):
    assert network_bytes(SHAPE, how) == expected


def test_activations_are_what_a_layer_keeps_of_a_token():
    # 6 x 10 of the residual stream, 2 x 10 queries and gathered, 2 x 5 keys and values, 4 x 20 of the MLP,
    # 2 heads x 7 probabilities: 184 a layer; 2 layers, 3 tokens, 4 bytes
    assert activation_bytes(SHAPE, 3, 7, 4, is_fused=False) == 2 * 3 * 184 * 4
    # in bfloat16 8 x 10 of the stream; fused, 2 x 10 for repeated keys and values in place of 2 x 7
    assert activation_bytes(SHAPE, 3, 7, 2, is_fused=False) == 2 * 3 * 204 * 2
    assert activation_bytes(SHAPE, 3, 7, 4, is_fused=True) == 2 * 3 * 190 * 4
    # computed again: one of the 2 layers at a time, and the 10 that enter each
    assert recomputed_bytes(SHAPE, 3, 4, 2 * 3 * 184 * 4) == 3 * 184 * 4 + 2 * 3 * 10 * 4
    assert cache_bytes(SHAPE, 11, 2) == 2 * 2 * 5 * 11 * 2  # keys and values, layers, 1 x 5, tokens, bytes


def test_operations_are_two_a_weight_and_token_and_those_of_attention():
    # a token: 2 x 700 and 2 layers x (2 x 8 x 10); a predicted one: 2 x 30 x 10
    assert forward_flops(SHAPE, 3, 2, 8) == 3 * (1400 + 320) + 2 * 600
    passes = [Training(4, 9, is_adapter, again).passes for again in (False, True) for is_adapter in (False, True)]
    assert passes == [
        3,
        2,
        4,
        3,
    ]  # forward and two of the backward pass, one with an adapter; one more to compute again
    assert adapter_parameters(1024, 8) == 8192


def test_sampling_takes_as_long_as_products_or_reading_whichever_is_longer():
    what = Sampling(num_rows=4, prompt_tokens=6, new_tokens=4, rows_at_once=2)
    prompts = (24 * (1400 + 2 * 6 * 2 * 10) + 4 * 600) / 500  # at half of 1000 a second
    token = 1400 + 2 * 8 * 2 * 10 + 600  # of a row of 6 + 4 / 2 tokens
    slow_products = sampling_seconds(SHAPE, what, 4, Machine(1000, 1e9, 0), 0.5)
    assert slow_products == pytest.approx(prompts + 2 * 4 * 2 * token / 500)  # batches, steps, rows
    read = (700 + 300) * 4 + 2 * 2 * 5 * 16 * 4  # weights with the head, keys and values of 2 x 8 tokens
    slow_reading = sampling_seconds(SHAPE, what, 4, Machine(1e12, 100, 0), 0.5)
    assert slow_reading == pytest.approx(2 * 4 * read / 100, rel=1e-6)
