"""Decoding: from a model that scores the next token to whole sequences. Greedy, sampling, beam search, and streaming.

A model takes part through two things, and nothing else is asked of it:

* ``step(tokens, state) → (logits, state)``: given the newest token of each row, (B,) ids, and what the model remembers
  of the tokens before, score the next one, (B, V). The given state is used up: a cache may grow in place.
* ``state.reorder(rows)``: the state of the rows with these numbers, (R,), in this order; a number may come twice.

One token at a time suffices because a model that reads from left to right needs no more, whether its memory is the
vector of a recurrent network, the keys and values of a Transformer, or the last words of an n-gram model. And reorder
suffices because all that decoding does with a batch is to drop rows that are finished and to continue a row in several
ways. A model without any memory takes part through `WholeText`, and reads everything again at each step.

A step sees equally many tokens in all rows. So prefixes of different lengths need no padding: a row whose prefix is not
at its end is given its next token, whatever the model would have chosen. Put the model into `eval` mode before.
"""

from lmcore.decode.beam import beam_search, gnmt_penalty, power_penalty
from lmcore.decode.protocol import Hypothesis, State, Step, WholeText
from lmcore.decode.single import greedy, sample, truncate
from lmcore.decode.stream import stream_text, stream_tokens

__all__ = [
    "Hypothesis",
    "State",
    "Step",
    "WholeText",
    "beam_search",
    "gnmt_penalty",
    "greedy",
    "power_penalty",
    "sample",
    "stream_text",
    "stream_tokens",
    "truncate",
]  # fmt: skip
