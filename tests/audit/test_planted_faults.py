"""Each kind of fault planted into a clean set is found, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fixtures.planted_faults import ALSO_FOUND, FAULTS, Set
from tametail.audit import AuditResult, audit
from tametail.data import read_images

# All classes of so small a set are.
EXPECTED = {"small_classes"}


def _audit(folder: Path, folds: int = 4) -> AuditResult:
    return audit(read_images(folder, allow_leaks=True), folds=folds)


@pytest.fixture
def images(tmp_path: Path) -> Set:
    return Set(tmp_path / "set")


def test_a_clean_set_has_no_findings(images: Set) -> None:
    result = _audit(images.write())
    assert {finding.code for finding in result.findings} == EXPECTED
    assert result.safe


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_and_nothing_else(fault: str, images: Set) -> None:
    severity, plant, concerned = FAULTS[fault]
    code = fault.partition(",")[0]
    plant(images)
    result = _audit(images.write())
    found = {finding.code: finding for finding in result.findings}
    assert set(found) - EXPECTED - ALSO_FOUND.get(code, set()) == {code}
    assert (found[code].severity, len(found[code].affected)) == (severity, concerned)
    assert found[code].message[:1].isdigit() or found[code].message.startswith(("expected", "no groups"))
    assert result.safe == all(finding.severity != "unsafe" for finding in result.findings)
    json.loads(json.dumps(result.as_dict(), allow_nan=False))


def test_duplicates_joined_are_no_longer_apart(images: Set) -> None:
    FAULTS["duplicates_cross_groups"][1](images)
    result = audit(read_images(images.write()), folds=4, group_duplicates=True)
    assert "duplicates_cross_groups" not in {finding.code for finding in result.findings}
    assert result.safe
    assert result.table.frame["group"].nunique() < len({row["group"] for row in images.rows})


def test_where_nothing_is_readable_the_audit_still_speaks(images: Set) -> None:
    for row in range(len(images.rows)):
        images.path(row).write_bytes(b"")
    result = _audit(images.write())
    found = {finding.code: finding for finding in result.findings}
    assert len(found["unreadable_files"].affected) == len(images.rows)
    assert "the file is empty" in found["unreadable_files"].details[0]
    assert not result.safe


def test_the_findings_name_the_images(images: Set) -> None:
    FAULTS["near_duplicates"][1](images)
    result = _audit(images.write())
    (near,) = (finding for finding in result.findings if finding.code == "near_duplicates")
    assert near.affected == (("images/004.png", "images/again.jpg"),)
    assert result.as_dict()["duplicates"]["members"] == [["images/004.png", "images/again.jpg"]]
