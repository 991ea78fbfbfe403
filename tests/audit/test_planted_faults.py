"""One fault of each kind is planted into a clean set: it is found, it alone, and it is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fixtures.planted_faults import ALONG, FAULTS, Set
from tametail.audit import Audit, audit_table
from tametail.data import read_images

# All classes of so small a set are.
EXPECTED = {"small_classes"}


def _audit(folder: Path, folds: int = 4) -> Audit:
    return audit_table(read_images(folder, allow_leaks=True), folds=folds)


@pytest.fixture
def images(tmp_path: Path) -> Set:
    return Set(tmp_path / "set")


def test_a_clean_set_has_no_findings(images: Set) -> None:
    audit = _audit(images.write())
    assert {finding.code for finding in audit.findings} == EXPECTED
    assert audit.safe


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_and_nothing_else(fault: str, images: Set) -> None:
    severity, plant, concerned = FAULTS[fault]
    code = fault.partition(",")[0]
    plant(images)
    audit = _audit(images.write())
    found = {finding.code: finding for finding in audit.findings}
    assert set(found) - EXPECTED - ALONG.get(code, set()) == {code}
    assert (found[code].severity, len(found[code].concerned)) == (severity, concerned)
    assert found[code].what[:1].isdigit() or found[code].what.startswith(("expected", "no groups"))
    assert audit.safe == all(finding.severity != "unsafe" for finding in audit.findings)
    json.loads(json.dumps(audit.as_dict(), allow_nan=False))


def test_duplicates_joined_are_no_longer_apart(images: Set) -> None:
    FAULTS["duplicates_apart"][1](images)
    audit = audit_table(read_images(images.write()), folds=4, join_duplicates=True)
    assert "duplicates_apart" not in {finding.code for finding in audit.findings}
    assert audit.safe
    assert audit.table.frame["group"].nunique() < len({row["group"] for row in images.rows})


def test_where_nothing_is_readable_the_audit_still_speaks(images: Set) -> None:
    for row in range(len(images.rows)):
        images.path(row).write_bytes(b"")
    audit = _audit(images.write())
    found = {finding.code: finding for finding in audit.findings}
    assert len(found["unreadable_files"].concerned) == len(images.rows)
    assert "the file is empty" in found["unreadable_files"].details[0]
    assert not audit.safe


def test_the_findings_name_the_images(images: Set) -> None:
    FAULTS["near_duplicates"][1](images)
    audit = _audit(images.write())
    (near,) = (finding for finding in audit.findings if finding.code == "near_duplicates")
    assert near.concerned == (("images/004.png", "images/again.jpg"),)
    assert audit.as_dict()["duplicates"]["members"] == [["images/004.png", "images/again.jpg"]]
