"""RNN, GRU, LSTM and a small Transformer as language models: equal parameters, and equal time.

Chapter 12 shows what this measures, `chapters/measured/12_language_models.json`, and trains the first Transformer
again to check it. Every run has its own budget of processor time on one thread, and a schedule that ends with the
budget, so that a point of the figure is what somebody gets who has that much time. The number of steps follows from
the time of the first steps. The learning rates are the better of two or three that were tried for each model for 15
seconds, by the bits of other chapters; the bits that are kept are those of the test chapters.

All four read the same text in the same order, 16 tracks in pieces of 64 characters. A recurrent model carries its
state from piece to piece, the Transformer sees its piece and nothing before it. The whole takes about 15 minutes.
"""

import json
import os
import platform
import sys
import time
from pathlib import Path

import numpy as np
import torch

from lmcore import data
from lmcore.metrics.perplexity import bits_per_character
from lmcore.models import gpt, rnn
from lmcore.nn.functional import cross_entropy
from lmcore.train import optim, schedule
from lmcore.train.loop import Trainer, TrainingConfig
from lmcore.train.tbptt import ContiguousBatches, detach

RATES = {"RNN": 0.01, "GRU": 0.01, "LSTM": 0.03, "Transformer": 0.01}
HIDDEN = {"RNN": 256, "GRU": 144, "LSTM": 124}
BUDGETS = {4: (0, 1), 16: (0, 1), 64: (0, 1)}  # seconds: seeds
TARGET = Path(__file__).resolve().parents[2] / "chapters" / "measured" / "12_language_models.json"


def texts():
    """Ids of the New Testament's characters: chapters to learn from, and every twentieth to judge by."""
    bible = data.load("king-james")
    new = set(bible.books()[-27:])
    verses = [verse for verse in bible if verse.book in new]
    train = "".join(v.text.lower() + "\n" for v in verses if v.chapter % 10)
    test = "".join(v.text.lower() + "\n" for v in verses if v.chapter % 20 == 10)
    number = {character: k for k, character in enumerate(sorted(set(train)))}
    return [torch.tensor([number[character] for character in text]) for text in (train, test)]


def build(name, seed):
    """A model of about 85,000 parameters."""
    generator = torch.Generator().manual_seed(seed)
    if name == "Transformer":
        config = gpt.GPTConfig.llama(
            vocabulary_size=39, context=64, d_model=56, d_ff=168, layers=2, heads=4, tied=True
        )  # fmt: skip
        return gpt.GPT(config, generator=generator)
    config = rnn.RecurrentLMConfig(vocabulary_size=39, cell=name.lower(), embedding_dim=32, hidden=HIDDEN[name])
    return rnn.RecurrentLM(config, generator=generator)


def train(name, ids, steps, seed):
    """Train for so many steps; the model, and the seconds of processor time."""
    model, batches = build(name, seed), ContiguousBatches(ids, batch_size=16, steps=64)

    def loss(model, batch):
        x, y = batch
        if name == "Transformer":
            return cross_entropy(model(x), y)
        logits, state = model(x, batches.state)
        batches.state = detach(state)
        return cross_entropy(logits, y)

    adam = optim.Adam(model.parameters(), RATES[name])
    plan = schedule.Schedule(adam, schedule.cosine(steps, warmup=steps // 20))
    settings = TrainingConfig(steps=steps, max_grad_norm=1.0)
    trainer = Trainer(model, loss, batches, adam, config=settings, schedule=plan, progress=False)
    started = time.process_time()
    trainer.run()
    return model, time.process_time() - started


def bits(model, ids):
    """Bits per character; a Transformer's windows overlap, so that every character has 32 or more before it."""
    if isinstance(model, gpt.GPT):
        logprobs = gpt.score(model, ids, stride=32, batch_size=64)
    else:
        logprobs = rnn.score(model, ids, tracks=32)
    return bits_per_character(logprobs, len(ids) - 1)


def keep(runs):
    """Store the runs so far, and what they ran on."""
    machine = {"processor": platform.machine(), "cpus": os.cpu_count(), "threads": 1, "torch": torch.__version__}
    TARGET.parent.mkdir(exist_ok=True)
    temporary = TARGET.with_suffix(".tmp")
    temporary.write_text(json.dumps({"machine": machine, "runs": runs}, indent=1) + "\n", encoding="utf-8")
    temporary.replace(TARGET)


def main():
    """Measure all, print a table, and keep it."""
    torch.set_num_threads(1)
    learn, test = texts()
    runs = []
    for budget, seeds in BUDGETS.items():
        for name in RATES:
            for seed in seeds:
                per_step = train(name, learn, 40, seed)[1] / 40
                steps = max(40, round(budget / per_step))
                model, seconds = train(name, learn, steps, seed)
                run = {
                    "model": name, "seed": seed, "budget": budget, "steps": steps, "seconds": round(seconds, 1),
                    "characters": steps * 16 * 64, "bits": round(float(bits(model, test)), 3),
                    "parameters": sum(p.numel() for p in model.parameters()),
                }  # fmt: skip
                runs.append(run)
                keep(runs)
                print("{model:11} seed {seed}: {steps:6} steps in {seconds:5.1f} s, {bits:.3f} bits".format(**run))
                sys.stdout.flush()
    best = {name: np.mean([r["bits"] for r in runs if r["model"] == name and r["budget"] == 64]) for name in RATES}
    print("bits at 64 s:", {name: round(value, 2) for name, value in best.items()})


if __name__ == "__main__":
    main()
