"""Citations and reference lists, written out: each kind of work by hand, who is named, letters, and what is refused."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcore.checking import load

ROOT = Path(__file__).resolve().parents[2]
citations = load(ROOT / "chapters" / "citations.py")
ALL = set(citations.parse_file(str(citations.REFERENCES), bib_format="bibtex", encoding="utf-8").entries)
LIST = "## References\n\n:::{bibliography}\n:::"

INVENTED = r"""
@article{two2013b, author = {Ångström, Ada and Zuse, Bo}, title = {B comes second}, journal = {J}, year = {2013}}
@article{two2013a, author = {Ångström, Ada and Zuse, Bo}, title = {A comes first}, journal = {J}, year = {2013}}
@article{two2014, author = {Ångström, Ada and Zuse, Bo}, title = {Why?}, journal = {J}, year = {2014}}
@article{four2013, author = {Abel, C. and Zuse, B. and Ott, A. and Ito, K.}, title = {T}, journal = {J}, year = {2013}}
@article{three2013, author = {Abel, C. and Zuse, B. and Ott, A.}, title = {T}, journal = {J}, year = {2013}}
@misc{many2020, author = {Berg, Ulf and others}, title = {A*: {S}earch}, year = {2020}, url = {https://a.org/b_c(d)}}
@book{particle1932, author = {von Neumann, John}, title = {{\"U}ber Alles}, publisher = {Springer}, year = {1932}}
@phdthesis{firm1999, author = {{Big and Small Company}}, title = {Works}, school = {MIT}, year = {1999}}
@article{sici1990, author = {{\'E}tienne, Anne-Marie}, title = {A}, journal = {J}, volume = {4}, year = {1990},
  doi = {10.1/(SICI)1:6<391::AID-A1>3.0.CO;2-9}}
@article{dateless, author = {Doe, J.}, title = {T}, journal = {J}}
@article{nameless, title = {T}, journal = {J}, year = {2000}}
"""


@pytest.fixture
def invented(tmp_path):
    path = tmp_path / "invented.bib"
    path.write_text(INVENTED, encoding="utf-8")
    return path


def written(source, references=citations.REFERENCES):
    """A source with a reference list after it, written out: the text, and the list's items."""
    text, listed = citations.resolve([source, LIST], "01_x.md", references)
    heading, _, *items = listed.splitlines()
    assert heading == "## References"
    return text, [item.removeprefix("- ") for item in items]


# -- the list, by hand ----------------------------------------------------------------------------------------------

BY_HAND = {
    "shannon1948mathematical": "Shannon, C. E. (1948). A Mathematical Theory of Communication. "
    "*The Bell System Technical Journal*, 27(3), 379–423.",
    "bengio2003neural": "Bengio, Y., Ducharme, R., Vincent, P. and Jauvin, C. (2003). A Neural Probabilistic Language "
    "Model. *Journal of Machine Learning Research*, 3, 1137–1155.",
    "mikolov2013efficient": "Mikolov, T., Chen, K., Corrado, G. and Dean, J. (2013). Efficient Estimation of Word "
    "Representations in Vector Space. *arXiv preprint*. [arXiv:1301.3781](https://arxiv.org/abs/1301.3781).",
    "chen1996empirical": "Chen, S. F. and Goodman, J. (1996). An Empirical Study of Smoothing Techniques for Language "
    "Modeling. In *34th Annual Meeting of the Association for Computational Linguistics*, 310–318. "
    "[doi:10.3115/981863.981904](https://doi.org/10.3115/981863.981904).",
    "jelinek1980interpolated": "Jelinek, F. and Mercer, R. L. (1980). Interpolated Estimation of Markov Source "
    "Parameters from Sparse Data. In *Pattern Recognition in Practice*, 381–397. North-Holland.",
    "golub2013matrix": "Golub, G. H. and Van Loan, C. F. (2013). *Matrix Computations* (4th edition). Johns Hopkins "
    "University Press.",
    "radford2018improving": "Radford, A., Narasimhan, K., Salimans, T. and Sutskever, I. (2018). Improving Language "
    "Understanding by Generative Pre-Training. Technical report, OpenAI.",
    "frantar2023gptq": "Frantar, E., Ashkboos, S., Hoefler, T. and Alistarh, D. (2023). GPTQ: Accurate Post-Training "
    "Quantization for Generative Pre-Trained Transformers. In *International Conference on Learning Representations*. "
    "In the proceedings under the title OPTQ. [arXiv:2210.17323](https://arxiv.org/abs/2210.17323).",
    "brown2020language": "Brown, T. B., Mann, B., Ryder, N., Subbiah, M., Kaplan, J., Dhariwal, P., Neelakantan, A., "
    "Shyam, P., Sastry, G., Askell, A. et al. (2020). Language Models Are Few-Shot Learners. In *Advances in Neural "
    "Information Processing Systems 33*.",
}


@pytest.mark.parametrize("key", BY_HAND)
def test_each_kind_of_work_as_it_is_listed(key):
    assert written(f"{{cite:t}}`{key}`")[1] == [BY_HAND[key]]


INVENTED_BY_HAND = {
    "many2020": "Berg, U. et al. (2020). A\\*: Search. [https://a.org/b\\_c(d)](https://a.org/b_c%28d%29).",
    "particle1932": "von Neumann, J. (1932). *Über Alles*. Springer.",
    "firm1999": "Big and Small Company (1999). Works. PhD thesis, MIT.",
    "two2014": "Ångström, A. and Zuse, B. (2014). Why? *J*.",
    "sici1990": "Étienne, A.-M. (1990). A. *J*, 4. [doi:10.1/(SICI)1:6\\<391::AID-A1>3.0.CO;2-9]"
    "(https://doi.org/10.1/%28SICI%291:6%3C391::AID-A1%3E3.0.CO;2-9).",
}


@pytest.mark.parametrize("key", INVENTED_BY_HAND)
def test_what_needs_care_in_the_list(invented, key):
    assert written(f"{{cite:t}}`{key}`", invented)[1] == [INVENTED_BY_HAND[key]]


def test_every_kind_in_the_bibliography_is_among_those_done_by_hand():
    parsed = citations.parse_file(str(citations.REFERENCES), bib_format="bibtex", encoding="utf-8").entries
    assert {entry.type for entry in parsed.values()} <= {parsed[key].type for key in BY_HAND} | {"misc", "phdthesis"}


@pytest.mark.parametrize("key", sorted(ALL))
def test_every_field_of_every_work_is_listed(key):
    (entry, year) = citations.select({key}, "a test")[key]
    line = citations.reference(entry, year)
    for name, value in entry.fields.items():
        if name not in {"archiveprefix", "primaryclass"}:
            assert citations.markdown(value) in line, f"{name} is missing in: {line}"
    assert not re.search(r"[{}]|\\[a-z\"'^~]|--|\.\.|  ", line)


# -- the citations, by hand -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{cite:t}`shannon1948mathematical` says", "Shannon (1948) says"),
        ("so {cite:p}`shannon1948mathematical`.", "so (Shannon, 1948)."),
        ("{cite:t}`golub2013matrix`", "Golub and Van Loan (2013)"),
        ("{cite:t}`bengio2003neural`", "Bengio et al. (2003)"),
        (
            "{cite:p}`jelinek1980interpolated,\nbengio2003neural`",
            "(Jelinek and Mercer, 1980; Bengio et al., 2003)",
        ),
        (
            "{cite:t}`shannon1948mathematical, shannon1951prediction, chen1996empirical`",
            "Shannon (1948), Shannon (1951) and Chen and Goodman (1996)",
        ),
        ("{cite:t}`katz1987estimation` and {cite:p}`katz1987estimation`", "Katz (1987) and (Katz, 1987)"),
    ],
)
def test_one_two_and_more_authors(source, expected):
    assert written(source)[0] == expected


def test_works_that_would_be_cited_alike_get_letters_in_the_lists_order(invented):
    text, items = written("{cite:p}`two2014,two2013b,two2013a` {cite:t}`many2020`", invented)
    assert text == "(Ångström and Zuse, 2014; Ångström and Zuse, 2013b; Ångström and Zuse, 2013a) Berg et al. (2020)"
    years = [re.search(r"\((\d+\w?)\)\. (.)", item).groups() for item in items]
    assert years == [("2013a", "A"), ("2013b", "B"), ("2014", "W"), ("2020", "A")]
    assert written("{cite:t}`two2013b`", invented)[0] == "Ångström and Zuse (2013)"


def test_different_authors_that_are_shortened_alike_get_letters_too(invented):
    text, items = written("{cite:t}`three2013` {cite:t}`four2013`", invented)
    assert text == "Abel et al. (2013a) Abel et al. (2013b)"
    assert ["Ito" in item for item in items] == [False, True]


# -- properties -----------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(sorted(ALL)), min_size=1, unique=True))
def test_the_list_holds_what_is_cited_once_and_in_an_order_that_the_text_does_not_change(keys):
    _, items = written(f"{{cite:p}}`{','.join(keys)}`")
    assert written("".join(f"{{cite:t}}`{key}`" for key in reversed(keys * 2)))[1] == items
    assert len(set(items)) == len(items) == len(keys)
    names = [re.match(r"\w+", item.removeprefix("Van "))[0].lower() for item in items]
    assert names == sorted(names)


def test_the_options_of_the_old_list_and_other_markdown_are_left_in_peace():
    cell = "A `{cell}` with $x_{i}$ and :::{admonition} Common error: x\n:::\n{cite:p}`katz1987estimation`"
    text, _ = citations.resolve([cell, ":::{bibliography}\n:filter: docname in docnames\n:::"], "01_x.md")
    assert text == cell.replace("{cite:p}`katz1987estimation`", "(Katz, 1987)")
    assert citations.resolve(["No citation."], "01_x.md") == ["No citation."]


# -- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (
            ["{cite:t}`shanon1948mathematical`", LIST],
            r"01_x\.md cites 'shanon1948mathematical', which is not in references\.bib; "
            r"the closest key is 'shannon1948mathematical'",
        ),
        (["{cite:t}`katz1987estimation`"], r"01_x\.md cites 1 works and has 0 \{bibliography\}"),
        (["{cite:t}`katz1987estimation`", LIST, LIST], r"01_x\.md cites 1 works and has 2 \{bibliography\}"),
        (["Nothing.", LIST], r"01_x\.md cites 0 works and has 1 \{bibliography\}"),
        (["{cite:year}`katz1987estimation`"], r"01_x\.md has '\{cite:year\}`katz1987estimation`'; what is known"),
        (["```{bibliography}\n```"], r"01_x\.md has '\{bibliography\}'; what is known"),
    ],
)
def test_what_cannot_be_written_out_is_named(sources, message):
    with pytest.raises(ValueError, match=message):
        citations.resolve(sources, "01_x.md")


@pytest.mark.parametrize(
    ("key", "message"),
    [("dateless", "'dateless' has no year"), ("nameless", "'nameless' has neither an author nor an editor")],
)
def test_an_incomplete_entry_is_named(invented, key, message):
    with pytest.raises(ValueError, match=message):
        written(f"{{cite:t}}`{key}`", invented)
