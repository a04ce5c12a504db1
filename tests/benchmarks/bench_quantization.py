"""SmolLM2 and MiniLM in fewer bits: what is left of their quality, and what is gained in size, memory and time.

Chapter 28 shows what this measures, `chapters/measured/28_quantization.json`, and measures a part of it again. There
are two tables. *quality* has a row for each model in each form: size of the file, and what the model is still good for.
*costs* has a row for each kind of layers, since methods that differ in their codes only run alike: memory and time of a
fresh process that reads the file, in which nothing is counted that another row has left behind. A row is written as
soon as it is measured, and replaces that of an earlier run. All take about a quarter of an hour;

    python -m tests.benchmarks.bench_quantization quality|costs [WORD…]

measures the rows of one table whose names contain a word, such as "SmolLM2", "GPTQ" or "MiniLM NF4".

What the numbers are of. *SmolLM2*: nats per token of 16 windows of 256 tokens of the encyclopedia's articles with odd
numbers, and of 16 of the King James Bible; calibrated, where a method needs it, on 32 windows from articles with even
numbers and from other books of the Bible. *MiniLM*: three sentences of each article of the encyclopedia look for the
article's opening among all of them; the reciprocal rank of the right one, and the cosines to the float32 vectors;
calibrated on other sentences. Matrices of blocks are rounded; the tables of words, a fifth of SmolLM2 and half of
MiniLM, stay in float32. Beware: SmolLM2's file comes in blocks of 32 weights of 4 bits each, see the first rows.
"""

import copy
import itertools
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from lmcore import data
from lmcore.compress.affine import Scheme, fake_quantize, quantize
from lmcore.compress.awq import quantize_awq
from lmcore.compress.checkpoint import load_quantized, save_quantized
from lmcore.compress.gptq_model import quantize_gptq
from lmcore.compress.inputs import record_inputs
from lmcore.compress.kv_cache import quantized_decoder_cache
from lmcore.compress.linear import CompressedLinear, QuantizedLinear
from lmcore.compress.mixed_bits import allocate
from lmcore.compress.nf4_linear import quantize_normal_float
from lmcore.compress.replace import chosen, matrices, quantize_dynamic, quantize_weights, replace
from lmcore.compress.sensitivity import loss_sensitivity
from lmcore.compress.smoothquant import smooth
from lmcore.compress.static import quantize_static
from lmcore.data.gguf import GGUF
from lmcore.metrics.bootstrap import bootstrap_interval
from lmcore.models import gpt_weights
from lmcore.models.bert import BERT, BERTConfig
from lmcore.models.bert_weights import from_bert
from lmcore.models.gpt import GPT
from lmcore.models.gpt_compiled import CompiledGPTDecoder
from lmcore.models.loading import load_weights
from lmcore.models.sentence_encoder import SentenceEncoder
from lmcore.text.bpe import ByteLevelBPE
from lmcore.text.sentences import split_sentences
from lmcore.text.wordpiece import WordPiece

TARGET = Path(__file__).resolve().parents[2] / "chapters" / "measured" / "28_quantization.json"
WINDOW, WINDOWS, CALIBRATION = 256, 16, 32
PROMPT = "The capital of France is"


def scheme(bits, group=None):
    """Free grids, a scale and a minimum for each row or each group of a row."""
    per = {"per": "row"} if group is None else {"per": "group", "group_size": group}
    return Scheme(bits=bits, symmetric=False, exact_zero=False, **per)


# ---- the two models, and what is measured of them ----


class SmolLM2:
    """The decoder: perplexity, a sample, and the time of a step of decoding."""

    @staticmethod
    def file():
        return GGUF(data.member_path("smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"))

    @classmethod
    def blank(cls):
        """Without weights."""
        return GPT(gpt_weights.gguf_config(cls.file().metadata, context=WINDOW), device="meta").eval()

    def __init__(self):
        file = self.file()
        self.model = gpt_weights.load_gguf(file, context=WINDOW)
        about = file.metadata
        merges = [tuple(rule.split(" ")) for rule in about["tokenizer.ggml.merges"]]
        self.words = ByteLevelBPE(merges, pattern="smollm2", tokens=about["tokenizer.ggml.tokens"])
        articles = ["\n".join(article.text.split("\n")[:9]) for article in data.load("encyclopedia")]
        bible = data.load("king-james")
        books = bible.books()
        verses = {k: [v.text for v in bible if books.index(v.book) % 8 == k][::9] for k in (0, 4)}
        self.texts = {
            "encyclopedia": self.windows(articles[1::2], WINDOWS),
            "king-james": self.bible(verses[4], WINDOWS),
        }
        some = [self.windows(articles[::2], CALIBRATION * 3 // 4), self.bible(verses[0], CALIBRATION // 4)]
        self.batches = torch.cat(some)[:, :-1].split(8)

    def windows(self, texts, count):
        """The first tokens of some texts."""
        rows = (self.words.encode(text[:4000])[: WINDOW + 1] for text in texts)
        return torch.tensor(list(itertools.islice((row for row in rows if len(row) > WINDOW), count)))

    def bible(self, verses, count):
        """Tokens of verses, cut into rows."""
        ids = self.words.encode("\n".join(verses))[: count * (WINDOW + 1)]
        return torch.tensor(ids).view(count, WINDOW + 1)

    @torch.inference_mode()
    def quality(self, model, new_cache=lambda: None):
        """Nats per token, window by window, and the likeliest continuation of a prompt."""
        nats = {}
        for name, rows in self.texts.items():
            parts = []
            for some in rows.split(4):
                logprobs = model(some[:, :-1], cache=new_cache()).float().log_softmax(-1)
                parts += (-logprobs.gather(2, some[:, 1:, None])).mean((1, 2)).tolist()
            nats[name] = [round(x, 4) for x in parts]
        ids = self.words.encode(PROMPT)
        for _ in range(12):
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
        perplexity = {name: round(float(np.exp(np.mean(some))), 3) for name, some in nats.items()}
        return {"perplexity": perplexity, "nats": nats, "sample": self.words.decode(ids)}

    @classmethod
    def reader(cls, model, weights):
        """What the compiled decoder computes, for many positions at once: its products are the same."""
        decoder = cls.special(model, weights)
        return lambda ids, cache=None: decoder._output(decoder._read(ids, decoder.start()))

    @staticmethod
    def work(model, batch):
        """One step of decoding after 32 tokens, as a function."""
        state = model.start(torch.arange(1000, 1000 + 32 * batch).view(batch, 32))
        return lambda: model.step(torch.full((batch,), 1000), state)

    @staticmethod
    def special(model, weights):
        """The same weights in code that is compiled for decoding one text, see chapter 14."""
        return CompiledGPTDecoder(model, weights=weights)


class MiniLM:
    """The encoder of sentences: search, cosines, and the time for a batch of sentences."""

    @staticmethod
    def blank():
        """Without weights."""
        sizes = {"vocabulary_size": 30_522, "d_model": 384, "layers": 6, "heads": 12, "d_ff": 1536}
        return BERT(BERTConfig.standard(**sizes), device="meta").eval()

    def __init__(self):
        self.model = self.blank()
        load_weights(self.model, from_bert(load_file(data.member_path("minilm", "model.safetensors"))))
        pieces = WordPiece.from_vocab_file(data.member_path("minilm", "vocab.txt"))
        openings, questions, others, right = [], [], [], []
        draw = random.Random(0)
        for number, article in enumerate(data.load("encyclopedia")):
            openings.append(" ".join(split_sentences(article.text[:1000])[:2]))
            later = [s for line in article.text[1000:].split("\n") for s in split_sentences(line) if len(s.split()) > 5]
            draw.shuffle(later)
            questions += later[:3]
            right += [number] * len(later[:3])  # a few articles are shorter
            others += later[3:12]
        self.right = np.array(right)
        begin, end = pieces.id("[CLS]"), pieces.id("[SEP]")
        self.rows = [[begin, *pieces.encode(text)[:126], end] for text in openings + questions]
        long = list(itertools.chain.from_iterable(pieces.encode(text) for text in others))
        rows = [[begin, *long[k * 62 : k * 62 + 62], end] for k in range(128)]
        self.batches = torch.tensor(rows).split(32)
        self.expected = self.vectors(self.model)

    @torch.inference_mode()
    def vectors(self, model):
        """Means over tokens, of length 1; rows of one length are read together, so that nothing is padded."""
        order = sorted(range(len(self.rows)), key=lambda k: len(self.rows[k]))
        found = np.empty((len(order), 384), dtype=np.float32)
        for length, same in itertools.groupby(order, key=lambda k: len(self.rows[k])):
            places = list(same)
            rows = [self.rows[k] for k in places]
            special = isinstance(model, SentenceEncoder)
            hidden = (model._read(rows).view(-1, length, 384) if special else model(torch.tensor(rows))).float()
            found[places] = torch.nn.functional.normalize(hidden.mean(1), dim=1).numpy()
        return found

    def quality(self, model):
        """Reciprocal ranks of the right openings, and cosines to the vectors of float32."""
        vectors = self.vectors(model)
        openings, questions = vectors[: -len(self.right)], vectors[-len(self.right) :]
        scores = questions @ openings.T
        ranks = 1 + (scores > scores[np.arange(len(scores)), self.right][:, None]).sum(axis=1)
        counts = np.column_stack([1 / ranks, np.ones(len(ranks))])
        found = bootstrap_interval(lambda s: s[0] / s[1], counts, rng=np.random.default_rng(0))
        cosines = np.einsum("nd,nd->n", vectors, self.expected)
        return {
            "mrr": round(found.estimate, 4), "interval": [round(found.low, 4), round(found.high, 4)],
            "first": round(float((ranks == 1).mean()), 4), "ranks": ranks.tolist(),
            "cosine": round(float(cosines.mean()), 5), "least_cosine": round(float(cosines.min()), 5),
        }  # fmt: skip

    @staticmethod
    def work(model, batch):
        """Sentences of 32 tokens, as a function."""
        ids = torch.arange(1000, 1000 + 32 * batch).view(batch, 32)
        if isinstance(model, SentenceEncoder):
            return partial(model._read, ids.tolist())
        return partial(model, ids)

    @staticmethod
    def special(model, weights):
        """The same weights in code that is made for reading only, see chapter 13."""
        pieces = WordPiece.from_vocab_file(data.member_path("minilm", "vocab.txt"))
        return SentenceEncoder(model, pieces, dtype=getattr(torch, weights))


MODELS = {"SmolLM2": SmolLM2, "MiniLM": MiniLM}


# ---- the forms ----

COMPILED = ("float32", "bfloat16", "int8")  # weights of the code that is made for reading or decoding only
GPTQ = {"damping": 0.01, "order": "activation"}


def smoothed(kit):
    """A decoder whose norms take the outliers out of activations."""
    largest = {name: seen.largest for name, seen in record_inputs(kit.model, kit.batches).items()}
    return smooth(kit.model, largest)


def mixed(kit):
    """Two, three or four bits for each matrix of MiniLM, in the bytes that three for all would take."""
    few, names = kit.batches[0], [name for name in matrices(kit.model) if ".layers." in name]
    with torch.inference_mode():
        expected = kit.model(few)

    @torch.inference_mode()
    def loss(model):
        return 1 - torch.cosine_similarity(model(few), expected, dim=-1).mean().item()

    ways = {bits: lambda _, weight, bits=bits: fake_quantize(weight, scheme(bits, 64)) for bits in (2, 3, 4)}
    damages = loss_sensitivity(kit.model, loss, ways, names=names)
    weights = {name: matrices(kit.model)[name].weight for name in names}
    sizes = {name: {bits: quantize(w, scheme(bits, 64)).nbytes for bits in ways} for name, w in weights.items()}
    bits = allocate(sizes, damages, sum(own[3] for own in sizes.values())).options

    def make(name, weight, bias):
        return QuantizedLinear(quantize(weight, scheme(bits[name], 64)), bias)

    return replace(kit.model, make, names=names)


def forms(kit):
    """By name: how the model gets this form, and the kind of its layers."""
    model, batches = kit.model, kit.batches
    names = [name for name in matrices(model) if ".layers." in name]
    decoder, rows = isinstance(kit, SmolLM2), {"names": names}
    made = {
        "float32": (lambda: model, "float32"),
        "bfloat16": (lambda: copy.deepcopy(model).bfloat16(), "bfloat16"),
        "int8 dynamic": (partial(quantize_dynamic, model, **rows), "int8 dynamic"),
        "int8 static": (partial(quantize_static, model, batches, **rows), "int8 static"),
    }
    if decoder:
        made["int8 static, SmoothQuant"] = (lambda: quantize_static(smoothed(kit), batches, **rows), "int8 static")
    for bits, group in ((4, 32), (4, 64), (4, None), (3, 64)):
        own, key = scheme(bits, group), f"{bits} bits, " + ("rows" if group is None else f"groups of {group}")
        made[f"{key}, to nearest"] = (partial(quantize_weights, model, own, **rows), key)
        if group != 32:
            made[f"{key}, GPTQ"] = (partial(quantize_gptq, model, batches, own, **rows, **GPTQ), key)
            made[f"{key}, AWQ"] = (partial(quantize_awq, model, batches, own, **rows, steps=10), key)
    made["NF4"] = (partial(quantize_normal_float, model, double=True, **rows), "NF4")
    if decoder:
        for weights in COMPILED[1:]:
            made[f"{weights}, compiled"] = (partial(kit.reader, model, weights), f"{weights}, compiled")
    else:
        made["2, 3 or 4 bits, groups of 64"] = (partial(mixed, kit), None)
        for weights in ("float32", "int8"):
            made[f"{weights}, fused"] = (partial(kit.special, model, weights), f"{weights}, fused")
    return made


def as_floats(model, small):
    """The model with the weights that a small one stands for: the same products, and quicker to judge."""
    parts = dict(small.named_modules()) if isinstance(small, torch.nn.Module) else {}
    layers = {name: parts[name] for name in matrices(model) if isinstance(parts.get(name), CompressedLinear)}
    if not layers or any(getattr(layer, "activations", None) is not None for layer in layers.values()):
        return small
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for name, matrix in chosen(copied, layers).items():
            scale = layers[name].input_scale
            matrix.weight.copy_(layers[name].dequantized() / (1 if scale is None else scale))
    return copied


def save(model, path):
    """Write a model's file, and return its megabytes."""
    if any(isinstance(part, CompressedLinear) for part in model.modules()):
        save_quantized(path, model)
    else:
        save_file({name: x.contiguous() for name, x in model.state_dict().items() if name != "output.weight"}, path)
    return round(os.path.getsize(path) / 1e6, 1)


# ---- costs, in a process of their own ----


def seconds(work):
    """Median time of a call after one that warms up: of seven calls, or of those that fit into two seconds."""
    work()
    times, begin = [], time.perf_counter()
    while len(times) < 2 or (len(times) < 7 and time.perf_counter() - begin < 2):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def memory():
    """The most memory that this process has had, and what it has now, in megabytes (None: not known)."""
    status = Path("/proc/self/status")
    if not status.exists():
        units = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // units, None
    text = status.read_text()  # Linux, where getrusage would count what the parent had before it started this process
    return tuple(int(text.split(f"{name}:")[1].split()[0]) // 1024 for name in ("VmHWM", "VmRSS"))


@torch.inference_mode()
def use(name, layers, path):
    """Read a model's file and use it; print what that took, as JSON."""
    kind, (before, _) = MODELS[name], memory()
    model, special = kind.blank(), layers.endswith((", compiled", ", fused"))
    if special or layers in ("float32", "bfloat16"):
        model.load_state_dict(load_file(path), strict=False, assign=True)
        if name == "SmolLM2":
            model.output.weight = model.embedding.weight
    else:
        model = load_quantized(path, model)
    if special:
        model = kind.special(model, layers.split(", ")[0])
    found = {"before_mb": before, "ms": {}, "peak_mb": {}, "now_mb": {}}
    for batch in (1, 32):
        found["ms"][batch] = round(1000 * seconds(kind.work(model, batch)), 2)
        found["peak_mb"][batch], found["now_mb"][batch] = memory()
    print(json.dumps(found))


def used(name, layers, path):
    """What `use` finds in a fresh process."""
    code = f"from tests.benchmarks.bench_quantization import use; use({name!r}, {layers!r}, {str(path)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=170)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


# ---- the two tables ----


def keep(table, row):
    """Write a row, in the place of an earlier one of the same model and form."""
    stored = json.loads(TARGET.read_text(encoding="utf-8")) if TARGET.exists() else {"quality": [], "costs": []}
    rows = [old for old in stored[table] if (old["model"], old["form"]) != (row["model"], row["form"])]
    stored[table] = [*rows, row]
    has = [name for name, there in torch.cpu.get_capabilities().items() if there is True]
    stored["machine"] = stored.get("machine", {}) | {
        "processor": platform.machine(), "cpus": os.cpu_count(), "torch": torch.__version__,
        "instructions": [name for name in has if name in ("avx512_vnni", "avx512_bf16")],
    }  # fmt: skip
    if table == "costs":  # quality does not depend on it
        stored["machine"]["threads"] = torch.get_num_threads()
    TARGET.parent.mkdir(exist_ok=True)
    temporary = TARGET.with_suffix(".tmp")
    temporary.write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(TARGET)
    print({name: value for name, value in row.items() if name not in ("nats", "ranks")}, flush=True)


def wanted(name, form, words):
    """Whether a row is asked for: it contains one of the words."""
    return not words or any(word in f"{name} {form}" for word in words)


def quality(kit, words, path):
    """Measure rows of the first table."""
    name = type(kit).__name__
    for form, (make, layers) in forms(kit).items():
        if wanted(name, form, words):
            model = make()
            size = save(model, path) if isinstance(model, torch.nn.Module) else None
            row = {"model": name, "form": form, "layers": layers, "file_mb": size}
            keep("quality", row | kit.quality(as_floats(kit.model, model)))
    caches = {"8 bits": {"bits": 8}, "4 bits": {"bits": 4}, "4 bits, keys by token": {"bits": 4, "keys": "token"}}
    for form, options in caches.items() if name == "SmolLM2" else ():
        if wanted(name, f"cache of {form}", words):
            depth = len(kit.model.decoder.layers)
            found = kit.quality(kit.model, partial(quantized_decoder_cache, depth, **options))
            cache = quantized_decoder_cache(depth, **options)
            with torch.inference_mode():
                kit.model(kit.batches[0][:1], cache=cache)
            size = round(sum(own.nbytes for own, _ in cache.layers) / 1e6, 2)
            keep("quality", {"model": name, "form": f"cache of {form}", "cache_mb": size} | found)


def costs(kit, words, path):
    """Measure rows of the second table: each kind of layers, with weights that were rounded to nearest."""
    kit.batches = kit.batches[:1]  # how well ranges are chosen is of no matter here
    name, first = type(kit).__name__, {}
    for form, (make, layers) in forms(kit).items():
        if layers and not form.endswith((", fused", ", compiled")):
            first.setdefault(layers, make)
    kinds = [*first, *(f"{w}, compiled" if name == "SmolLM2" else f"{w}, fused" for w in COMPILED)]
    for layers in kinds:
        if wanted(name, layers, words):
            save(first[layers]() if layers in first else kit.model, path)
            keep("costs", {"model": name, "form": layers} | used(name, layers, path))


def main(words=()):
    """Measure all, or the rows that the words choose."""
    tables = [table for table in (quality, costs) if not words or words[0] == table.__name__]
    with tempfile.TemporaryDirectory() as folder:
        for kind in MODELS.values():
            if wanted(kind.__name__, "", [w.split(" ")[0] for w in words[1:] if w.startswith(tuple(MODELS))]):
                kit = kind()
                for table in tables:
                    table(kit, list(words[1:]), Path(folder) / "model.safetensors")


if __name__ == "__main__":
    main(sys.argv[1:])
