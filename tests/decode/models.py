"""Small models to decode from: tables of probabilities, and random networks of any context."""

import torch

from lmcore.decode import WholeText

EOS = 0


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class Random:
    """A model whose scores depend on the whole text: a random vector for each (position, token), summed and mapped."""

    def __init__(self, n_words, *, seed=0, length=31, scale=1.5):
        self.n_words = n_words
        self.vectors = torch.randn(length, n_words, 7, generator=generator(seed))
        self.output = torch.randn(7, n_words, generator=generator(seed + 1)) * scale

    def __call__(self, ids):
        """(B, t) → (B, V)."""
        hidden = sum(self.vectors[t, ids[:, t]] for t in range(ids.shape[1]))
        return torch.tanh(hidden) @ self.output

    @property
    def step(self):
        return WholeText.step(self)


class Summed:
    """The same model with a memory that grows in place: what has been read so far, and how many tokens."""

    def __init__(self, hidden, t=0):
        self.hidden, self.t = hidden, t

    def reorder(self, rows):
        return Summed(self.hidden[rows], self.t)


def remembering_step(model):
    """One that adds a vector to the sum, instead of reading everything again."""

    def step(tokens, state):
        assert len(tokens) == len(state.hidden), "decoding and state disagree on the rows"
        state.hidden += model.vectors[state.t, tokens]  # in place: the old state is used up
        state.t += 1
        return torch.tanh(state.hidden) @ model.output, state

    return step


def table(rows):
    """Probabilities of the next token given the last one, as a step."""
    logits = torch.log(torch.tensor(rows))
    return WholeText.step(lambda ids: logits[ids])


def continuations(model, prefix, max_length):
    """Every continuation that ends or has max_length tokens, with its log-probability, by exhaustion."""
    found, open_ones = {}, {(): 0.0}
    for _ in range(max_length):
        following = {}
        for tokens, logprob in open_ones.items():
            log_p = torch.log_softmax(model(torch.tensor([[*prefix, *tokens]]))[0].double(), -1).tolist()
            for token, gained in enumerate(log_p):
                (found if token == EOS else following)[(*tokens, token)] = logprob + gained
        open_ones = following
    return found | open_ones
