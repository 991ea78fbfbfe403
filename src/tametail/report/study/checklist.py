"""Where a study answers the items of TRIPOD+AI and CLAIM 2024, and which are the authors' to fill in.

Items are in short, by the numbers of TRIPOD+AI (Collins et al., BMJ 2024) and the section of CLAIM (Tejani et al., Radiology:
Artificial Intelligence 2024); the checklists themselves have the full text.
"""

from __future__ import annotations

from tametail.report.study.provenance import grouped
from tametail.report.study.results import StudyResults
from tametail.report.table import Cell, Column, Row, Table

YOURS = "fill in"


def checklist_table(results: StudyResults) -> Table:
    """One row for each group of items."""
    by = bool(results.ranking and results.ranking[0].subgroups)
    tested = results.test_set_evaluated
    classes = "Labels" if results.multi_label else "Classes"
    failures = classes if results.multi_label else "Errors; Confusion" + "; Subgroups" * by
    items = (
        ("1, 2", "Title and abstract", "Title, abstract", ""),
        ("3a–3c", "Clinical context, intended use, known inequalities", "Introduction", ""),
        ("4", "Objectives", "Introduction", ""),
        ("5a, 5b", "Source and dates of the images", "Data", ""),
        ("6a–6c", "Setting, eligibility, treatments", "Data", ""),
        ("7", "Preparation of the images; files left out", "Data", "Data: how the data were read; Recipe"),
        ("8a–8c", "Reference standard: definition, annotators, blinding", "Reference standard", ""),
        ("9a–9c", "Predictors: pixels of the image, backbone and features", "Model", "Recipe"),
        ("10", "Intended sample size", "Data partitions", ""),
        ("11", "Missing data: unreadable images, unknown labels", "Data", "Data: audit"),
        (
            "12a",
            "Partitions, and what is kept together",
            "Data partitions",
            "Data" if grouped(results) else "Data; images are taken as independent: say whether they are",
        ),
        (
            "12b, 12c",
            "Model, initial weights, training, internal validation",
            "Model, training",
            "Recipe; Training",
        ),
        ("12d", "Differences between sites or groups", "Evaluation", "Subgroups" if by else ""),
        ("12e", "Measures of performance and their uncertainty", "Evaluation", "How to read; Methods"),
        ("12f, 24", "Updating of the model", "Model", ""),
        (
            "12g",
            "How predictions are computed",
            "Model",
            "model_card.md" if results.multi_label else "Calibration; model_card.md",
        ),
        ("13", "Class imbalance, and what is done about it", "Training", f"Methods; {classes}"),
        ("14", "Fairness", "Evaluation", "Subgroups" if by else ""),
        (
            "15",
            "Output of the model and its thresholds",
            "Model",
            "Labels" if results.multi_label else "Calibration; Operating points",
        ),
        ("16", "Differences between training and test data", "Data partitions", "Data"),
        ("17", "Ethical approval", "Other information", ""),
        ("18a–18d", "Funding, interests, protocol, registration", "Other information", ""),
        ("18e, 18f", "Sharing of data and code", "Other information", "Reproduce (code); the data are yours"),
        ("19", "Involvement of patients and the public", "Other information", ""),
        ("20a", "Flow of images through the study", "Results: data", "Data"),
        ("20b, 20c", "Characteristics of patients, by partition", "Results: data", ""),
        ("21", "Images and events in training", "Results: data", classes),
        ("22", "Specification of the model", "Results: model", "Recipe; tametail predict"),
        (
            "23a",
            "Performance with intervals",
            "Results: performance",
            f"Methods; {classes}; Test set"
            if tested
            else f"Methods; {classes} (cross-validation; the test set is not evaluated)",
        ),
        ("23b", "Performance by group; failures", "Results: performance", failures),
        ("25, 26", "Interpretation, limitations", "Discussion", ""),
        ("27a–27c", "Use in practice, poor input, further research", "Discussion", ""),
    )
    rows = [
        Row((Cell(numbers), Cell(item), Cell(section), Cell(where or YOURS)))
        for numbers, item, section, where in items
    ]
    titles = ("TRIPOD+AI", "Item", "Section of CLAIM", "Where")
    return Table(
        "Reporting checklist", tuple(Column(title, text=True) for title in titles), tuple(rows), head=1
    )
