"""What tensor parallelism communicates, predicted by formula; `lmcore.parallel.traffic` counts it while it happens.

A prediction is a pair, forward and backward, of bytes that a rank hands over, by name of the collective, as
`Traffic.bytes` gives them. An all-reduce or a reduce-scatter is handed the whole tensor, an all-gather a part of it.
"""

from lmcore.nn.transformer_block import TransformerConfig

Bytes = dict[str, int]


def layers_traffic(
    config: TransformerConfig, batch: int, length: int, n: int, *, sequence_parallel: bool = False, itemsize: int = 4
) -> tuple[Bytes, Bytes]:
    """Predict the bytes of a stack of blocks without cross-attention.

    Each of a block's two parts begins with f and ends with g: an all-reduce of all vectors forward, and one backward.
    With sequence parallelism an all-gather and a reduce-scatter take the place of each.

    Args:
        config: d_model and layers.   batch, length: B and T.   n: ranks.   itemsize: bytes of a number.
    Returns:
        Bytes handed over, forward and backward.
    Raises:
        ValueError: n below 1, or with sequence parallelism a length that n does not divide.

    >>> layers_traffic(TransformerConfig(d_model=6, heads=3, d_ff=7, layers=2), 5, 12, 3)   # 2 · 2 · 5 · 12 · 6 · 4
    ({'all_reduce': 5760}, {'all_reduce': 5760})
    """
    if n < 1 or (sequence_parallel and length % n):
        raise ValueError(
            f"n must be at least 1, and divide the length if that is split; got n = {n}, length = {length}"
        )
    size = 2 * config.layers * batch * length * config.d_model * itemsize
    one_way = {"all_gather": size // n, "reduce_scatter": size} if sequence_parallel else {"all_reduce": size}
    return one_way, dict(one_way)


def gpt_traffic(
    config: TransformerConfig, batch: int, length: int, n: int, *, sequence_parallel: bool = False, itemsize: int = 4
) -> tuple[Bytes, Bytes]:
    """Predict the bytes of a GPT and its loss.

    To `layers_traffic` come, forward, the embedding's sum and three numbers per row for the loss; backward, the
    gradient of the vectors that are scored. With sequence parallelism the stack's output is joined, forward, and the
    gradient of its input, backward; the message of `TensorParallel.sum_gradients` is not counted here.

    Returns:
        Bytes handed over, forward and backward. The vocabulary's size is in neither.
    Raises:
        ValueError: as `layers_traffic`.

    >>> stack = TransformerConfig(d_model=6, heads=3, d_ff=7, layers=2)
    >>> gpt_traffic(stack, 5, 12, 3)[1]     # 5760, and once more 5 · 12 · 6 · 4
    {'all_reduce': 7200}
    """
    forward, backward = layers_traffic(config, batch, length, n, sequence_parallel=sequence_parallel, itemsize=itemsize)
    vectors = batch * length * config.d_model * itemsize
    forward["all_reduce"] = forward.get("all_reduce", 0) + vectors + 3 * batch * length * itemsize
    backward["all_reduce"] = backward.get("all_reduce", 0) + vectors
    if sequence_parallel:
        forward["all_gather"] += vectors // n
        backward["all_gather"] += vectors // n
    return forward, backward
