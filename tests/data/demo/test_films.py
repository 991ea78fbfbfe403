from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tametail.core.errors import DataError
from tametail.data import read_images
from tametail.data.demo.films import FINDINGS, UNKNOWN_SHARE, draw_film, list_films, write_films


@pytest.mark.parametrize("seed", [0, 1])
def test_thirty_findings_with_a_tail_several_films_per_patient_and_a_fifth_unknown(seed: int) -> None:
    films = list_films(seed)
    assert len(FINDINGS) == len(set(FINDINGS)) == 30
    views = Counter(film.patient for film in films)
    assert set(views.values()) == {1, 2, 3}
    patients = list({film.patient: film for film in films}.values())
    count = Counter(name for film in patients for name in film.findings)
    assert max(count.values()) > 8 * min(count.values())
    # Enough for a test set and five folds, also where the label is known.
    known = Counter(name for film in patients for name in set(film.findings) - set(film.unknown))
    assert min(known[name] for name in FINDINGS) >= 7
    unknown = np.mean([len(film.unknown) for film in patients]) / len(FINDINGS)
    assert unknown == pytest.approx(UNKNOWN_SHARE, abs=0.02)


def test_findings_occur_together_more_often_than_by_chance() -> None:
    patients = {film.patient: film for film in list_films(0)}.values()
    has = np.array([[name in film.findings for name in FINDINGS] for film in patients])
    variance_if_independent = (has.mean(axis=0) * (1 - has.mean(axis=0))).sum()
    assert has.sum(axis=1).var() > 1.5 * variance_if_independent


def test_unknown_labels_do_not_depend_on_the_findings() -> None:
    patients = list({film.patient: film for film in list_films(0)}.values())
    has = np.array([[name in film.findings for name in FINDINGS] for film in patients])
    unknown = np.array([[name in film.unknown for name in FINDINGS] for film in patients])
    assert unknown[has].mean() == pytest.approx(unknown[~has].mean(), abs=0.03)


def test_a_film_is_determined_by_the_seed_and_shows_its_findings() -> None:
    film = next(film for film in list_films(0) if len(film.findings) > 4)
    assert np.array_equal(draw_film(film, 0), draw_film(film, 0))
    assert not np.array_equal(draw_film(film, 0), draw_film(film, 1))
    without = draw_film(type(film)(film.number, film.patient, (), ()), 0)
    assert np.abs(draw_film(film, 0).astype(int) - without).max() > 15
    assert draw_film(film, 0).shape == (96, 96)


def test_the_set_is_written_once_and_read_with_unknown_labels(tmp_path: Path) -> None:
    directory = tmp_path / "few"
    write_films(directory, patients=20)
    before = {path: path.stat().st_mtime_ns for path in directory.rglob("*")}
    write_films(directory, patients=20)
    assert before == {path: path.stat().st_mtime_ns for path in directory.rglob("*")}
    table = pd.read_csv(directory / "labels.csv")
    films = list_films(0, patients=20)
    assert table["image"].tolist() == [film.image for film in films]
    for name in FINDINGS:
        for film, value in zip(films, table[name], strict=True):
            expected = np.nan if name in film.unknown else float(name in film.findings)
            assert np.array_equal(value, expected, equal_nan=True)


def test_other_files_in_its_folder_are_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"expected .* to be absent, empty or the multi-label demo set"):
        write_films(tmp_path, patients=3)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_it_is_read_by_its_name() -> None:
    table = read_images("demo-multilabel")
    assert table.multi_label
    assert table.synthetic
    assert table.class_names == FINDINGS
    films = {film.image: film for film in list_films(0)}
    assert set(table.frame["image"]) == set(films)
    row = table.frame.iloc[100]
    film = films[row["image"]]
    assert row["group"] == film.group
    assert set(filter(None, row["unknown_labels"].split("|"))) == set(film.unknown)
    assert set(filter(None, row["label"].split("|"))) == set(film.findings) - set(film.unknown)
