"""Compare methods from Python, inspect the results, use the model.

python examples/compare_folder.py DATA       (without DATA: the synthetic demo set)
"""

import sys

import tametail as tt

data = sys.argv[1] if len(sys.argv) > 1 else "demo"
study = tt.compare(data, methods=["alpa", "ce"], out="runs/example")  # without internet: weights="offline"
print(study.results[["method", "balanced_accuracy", "balanced_accuracy_low", "balanced_accuracy_high", "n"]])
print("report:", study.report)

table = tt.read_images(data)
print(table.counts())
classifier = tt.load(study.directory)
print(classifier.predict_table(table.paths[:3]))
