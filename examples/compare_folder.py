"""Compare methods from Python, inspect the results, use the model.

python examples/compare_folder.py DATA       (without DATA: the synthetic demo set)
"""

import sys

import tametail as tt

table = tt.read_images(sys.argv[1] if len(sys.argv) > 1 else "demo")
print(table.counts())

study = tt.compare(
    table, losses=["alpa", "ce"], recipe="head", out="runs/example", fields={"weights": "offline"}
)
print(study.results[["loss", "balanced_accuracy", "balanced_accuracy_low", "balanced_accuracy_high", "n"]])
print("report:", study.report)

classifier = tt.load(study.directory)
print(classifier.predict(table.paths[:3]))
