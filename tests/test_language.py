"""The check of phrases and old names; that the tree is clean is checked by ``make check``."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "check_language.py"

TERMS = """
# a comment
phrase | quite another word | synonym
phrase | sesquipedal* | long
name | Zebra | Horse
option | --stripes | --plain
file | zoo/zebras.py | zoo/horses.py
"""


@pytest.fixture(scope="module")
def script() -> dict[str, object]:
    return runpy.run_path(str(SCRIPT), run_name="check_language")


@pytest.fixture
def find(script, tmp_path):
    listed = tmp_path / "terms.txt"
    listed.write_text(TERMS, encoding="utf-8")
    checker = script["Checker"](script["read_terms"](listed))

    def found(text: str, name: str = "page.md") -> list[tuple[int, str, str]]:
        return [(each.line, each.found, each.instead) for each in checker.find(Path(name), text)]

    return found


def test_a_phrase_is_found_in_any_case(find) -> None:
    assert find("one\nQuite Another Word.") == [(2, "Quite Another Word", "synonym")]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("It is quite\nanother word here.", "page.md"),
        ("> It is *quite another*\n> word here.", "page.md"),
        ('    """Quite another\n    word."""', "code.py"),
        ("# quite\n# another word", "code.py"),
        ('x = (\n    "quite another "\n    f"word"\n)', "code.py"),
        ("<p>quite\n   another word</p>", "page.html.j2"),
    ],
)
def test_a_phrase_is_found_across_a_line_break(find, text: str, name: str) -> None:
    assert [instead for _, _, instead in find(text, name)] == ["synonym"]


def test_similar_phrases_are_not_found(find) -> None:
    assert find("quite another wordy text; quite, another word; another word") == []


def test_a_star_stands_for_the_rest_of_a_word(find) -> None:
    assert [found for _, found, _ in find("a sesquipedalian text")] == ["sesquipedalian"]


def test_a_name_is_found_in_code_but_not_in_prose(find) -> None:
    assert find("class Zebra:\n    pass\n\n\nx = zoo.Zebra(Zebra=1)", "code.py") == [
        (1, "Zebra", "Horse"),
        (5, "Zebra", "Horse"),
        (5, "Zebra", "Horse"),
    ]
    assert find('"""A Zebra; see `Zebra`."""\nZebras = 1', "code.py") == [(1, "Zebra", "Horse")]
    assert find("A Zebra.\nUse `Zebra(1)`.") == [(2, "Zebra", "Horse")]
    assert find("<p>Zebra {{ Zebra.name }}</p>", "page.html.j2") == [(1, "Zebra", "Horse")]


def test_an_option_is_found_as_a_whole(find) -> None:
    assert find("use --stripes or --stripes-wide or --no-stripes") == [(1, "--stripes", "--plain")]


def test_a_file_is_found_as_path_as_module_and_by_its_name(find, script, tmp_path) -> None:
    assert [
        found for _, found, _ in find("zoo/zebras.py, import tametail.zoo.zebras; zoo.zebras; oo/zebras.py")
    ] == [
        "zoo/zebras.py",
        "tametail.zoo.zebras",
    ]
    checker = script["Checker"](script["read_terms"](tmp_path / "terms.txt"))
    assert [each.instead for each in checker.find_in_path(Path("src/zoo/zebras.py"))] == ["zoo/horses.py"]
    assert not list(checker.find_in_path(Path("src/farm/zebras.py")))


@pytest.mark.parametrize("line", ["word | a | b", "phrase | a", "phrase |  | b"])
def test_a_malformed_line_of_the_list_is_an_error(script, tmp_path, line: str) -> None:
    listed = tmp_path / "terms.txt"
    listed.write_text(f"phrase | a | b\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"terms\.txt:2: expected 'kind \| pattern \| use instead'"):
        script["read_terms"](listed)


def test_every_phrase_of_the_projects_list_is_found(script) -> None:
    terms = script["read_terms"](script["TERMS"])
    checker = script["Checker"](terms)
    for term in terms:
        if term.kind == "phrase":
            text = "Before " + term.pattern.replace("*", "ed").replace(" ", "\n") + " after."
            assert [each.instead for each in checker.find(Path("page.md"), text)], term


def test_findings_are_printed_with_file_and_line(script, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setitem(script["main"].__globals__, "TERMS", tmp_path / "terms.txt")
    (tmp_path / "terms.txt").write_text(TERMS, encoding="utf-8")
    planted = tmp_path / "planted.md"
    planted.write_text("fine\nquite another word\n", encoding="utf-8")
    assert script["main"]([str(planted)]) == 1
    assert f"{planted}:2: quite another word; use: synonym\n" in capsys.readouterr().out
    planted.write_text("fine\n", encoding="utf-8")
    assert script["main"]([str(planted)]) == 0
    assert capsys.readouterr().out == ""
