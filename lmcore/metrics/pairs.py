"""What a system wrote beside what people wrote: hypotheses and their references, checked before anything is counted.

Everywhere in this package ``references[i]`` belongs to ``hypotheses[i]``: one string, or a list of several strings if a
hypothesis may agree with any of them. sacrebleu wants the same strings the other way round, a list per translator;
``list(zip(*streams))`` turns its layout into ours.
"""

from collections.abc import Sequence

Reference = str | Sequence[str]


def checked_references(references: Reference, name: str = "references") -> list[str]:
    """Return the references of one hypothesis as a list with at least one string."""
    several = [references] if isinstance(references, str) else list(references)
    if not several:
        raise ValueError(f"{name} is empty: a hypothesis without a reference cannot be judged")
    for number, reference in enumerate(several):
        if not isinstance(reference, str):
            raise TypeError(f"{name}[{number}] must be a string, got {type(reference).__name__} {reference!r:.40}")
    return several


def checked_hypothesis(hypothesis: str) -> str:
    """Return one hypothesis, or say that it is none."""
    if not isinstance(hypothesis, str):
        raise TypeError(f"hypothesis must be a string, got {type(hypothesis).__name__} {hypothesis!r:.40}")
    return hypothesis


def checked_pairs(hypotheses: Sequence[str], references: Sequence[Reference]) -> tuple[list[str], list[list[str]]]:
    """Return hypotheses and, for each, the list of its references.

    Raises:
        TypeError: a string where a list is meant, or something in the lists that is no string.
        ValueError: no hypothesis, a hypothesis without reference, or different numbers of both.

    >>> checked_pairs(["a cat", "a dog"], ["the cat", ["the dog", "that dog"]])
    (['a cat', 'a dog'], [['the cat'], ['the dog', 'that dog']])
    """
    for name, values in (("hypotheses", hypotheses), ("references", references)):
        if isinstance(values, str):
            raise TypeError(f"{name} must be a list of strings, got one string: {values!r:.40}")
    hypotheses, references = list(hypotheses), list(references)
    if not hypotheses:
        raise ValueError("hypotheses is empty: there is nothing to judge")
    for number, hypothesis in enumerate(hypotheses):
        if not isinstance(hypothesis, str):
            raise TypeError(f"hypotheses[{number}] must be a string, got {type(hypothesis).__name__}")
    if len(references) != len(hypotheses):
        # The one mistake worth guessing at: a list per translator, as sacrebleu has it.
        streams = references and all(not isinstance(r, str) and len(r) == len(hypotheses) for r in references)
        hint = "; these are lists per translator: pass list(zip(*references))" if streams else ""
        raise ValueError(
            f"there are {len(hypotheses)} hypotheses and references for {len(references)}; references[i] belongs to "
            f"hypotheses[i]{hint}"
        )
    return hypotheses, [checked_references(several, f"references[{i}]") for i, several in enumerate(references)]
