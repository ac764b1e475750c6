from __future__ import annotations

import numpy as np
import pytest

from .running import One, Refusal, f32, normal

T, N, D = 5, 3, 4
X = normal(T, N, 2, 3)
CONT = f32([[0, 0, 0], [1, 1, 0], [1, 0, 1], [1, 1, 1], [0, 1, 1]])
STATIC = normal(N, 2, 2, seed=1)


def sigmoid(v: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-v)))


def lstm(x: np.ndarray, cont: np.ndarray, blobs: list[np.ndarray], static: np.ndarray | None = None) -> np.ndarray:
    """lstm_layer.cpp and lstm_unit_layer.cpp, sequence by sequence and step by step."""
    w_xc, b_c, *w_static, w_hc = (blob.astype(np.float64) for blob in blobs)
    tops = np.empty((T, N, D))
    for n in range(N):
        h, c = np.zeros(D), np.zeros(D)
        for t in range(T):
            gates = w_xc @ x[t, n].ravel() + b_c + w_hc @ (cont[t, n] * h)
            if static is not None:
                gates = gates + w_static[0] @ static[n].ravel()
            i, f, o, g = gates.reshape(4, D)
            forget = 0 if cont[t, n] == 0 else cont[t, n] * sigmoid(f)
            c = forget * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            tops[t, n] = h
    return tops


def rnn(x: np.ndarray, cont: np.ndarray, blobs: list[np.ndarray], static: np.ndarray | None = None) -> np.ndarray:
    """rnn_layer.cpp."""
    w_xh, b_h, *w_static, w_hh, w_ho, b_o = (blob.astype(np.float64) for blob in blobs)
    tops = np.empty((T, N, D))
    for n in range(N):
        h = np.zeros(D)
        for t in range(T):
            seen = w_xh @ x[t, n].ravel() + b_h + w_hh @ (cont[t, n] * h)
            if static is not None:
                seen = seen + w_static[0] @ static[n].ravel()
            h = np.tanh(seen)
            tops[t, n] = np.tanh(w_ho @ h + b_o)
    return tops


def weights(kind: str, static: bool) -> list[np.ndarray]:
    rows = 4 * D if kind == "LSTM" else D
    shapes = [(rows, 6), (rows,), *([(rows, 4)] if static else []), (rows, D)]
    shapes += [] if kind == "LSTM" else [(D, D), (D,)]
    return [normal(*shape, seed=10 + i) for i, shape in enumerate(shapes)]


MODELS = {"LSTM": lstm, "RNN": rnn}
PARAMS = f"recurrent_param {{ num_output: {D} debug_info: true }}"


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("static", [False, True])
def test_recurrent(one: One, kind: str, static: bool) -> None:
    blobs = weights(kind, static)
    bottoms = [X, CONT, *([STATIC] if static else [])]
    found = one(kind, PARAMS, *bottoms, blobs=blobs)
    found.check("y0", MODELS[kind](X, CONT, blobs, STATIC if static else None))
    names = [key.removeprefix("layer/") for key in found.graph.nodes[0].weights]
    assert len(names) == len(blobs)
    assert any("static" in name for name in names) is static
    assert found.graph.batched["x0"] == (None, N, 2, 3)  # the number of steps is free


@pytest.mark.parametrize("kind", MODELS)
def test_a_new_sequence_forgets_the_one_before(one: One, kind: str) -> None:
    blobs = weights(kind, False)
    whole = one(kind, PARAMS, X, CONT, blobs=blobs).onnx["y0"]
    changed = X.copy()
    changed[:4, 0] = 7  # sequence 0 begins anew at step 4
    after = one(kind, PARAMS, changed, CONT, blobs=blobs).onnx["y0"]
    np.testing.assert_array_equal(after[4, 0], whole[4, 0])
    assert (after[:4, 0] != whole[:4, 0]).all()


def test_rows_of_plain_vectors(one: One) -> None:
    blobs = [normal(4 * D, 6), normal(4 * D, seed=1), normal(4 * D, D, seed=2)]
    flat = X.reshape(T, N, 6)
    one("LSTM", PARAMS, flat, CONT, blobs=blobs).check("y0", lstm(flat, CONT, blobs))


@pytest.mark.parametrize("kind", MODELS)
def test_what_no_recurrent_layer_can_be(refusal: Refusal, kind: str) -> None:
    def said(params: str, *shapes: tuple[int, ...]) -> str:
        return refusal(kind, f"recurrent_param {{ {params} }}", *shapes)

    assert "expose_hidden: true" in said("num_output: 2 expose_hidden: true", (3, 2, 4), (3, 2))
    assert "num_output is 0" in said("num_output: 0", (3, 2, 4), (3, 2))
    assert "recurrent_param lacks num_output" in said("", (3, 2, 4), (3, 2))
    assert f"{kind} takes (T, N, ...) and (T, N)" in said("num_output: 2", (3, 2, 4), (2, 3))
    assert "third bottom has shape 3x4; its first axis must be the 2 sequences" in said(
        "num_output: 2", (3, 2, 4), (3, 2), (3, 4)
    )
