# make demo              set up .venv and compare methods on the built-in synthetic demo set, in runs/demo
# make test              set up .venv and run the tests
# make test-slow         run the tests that take several seconds each
# make test-browser      open the reports in an installed headless Chromium
# make check             lint, formatting, language, types, import layers
# make test-lowest       run the commands with the lowest versions of all dependencies that are allowed
# make audit             look for known vulnerabilities of the installed packages (asks the vulnerability database)
# make format            fix lint and formatting
# make wheel             build the package
# make prove-kill        kill each command at random moments and compare its files with undisturbed ones
# make prove-engines     train the same studies by every engine, kill workers and coordinators, and compare all files
# make prove-damage      damage folders of studies, searches, recommendations and evaluations, and read them
# make fuzz              give damaged and hostile tables, images and studies to the commands
# make coverage          simulate the coverage of the intervals
# make set-coverage      simulate the coverage of prediction sets
# make false-alarms      simulate the type I error of the paired comparisons
# make false-alarms-labels  simulate type I error and power of the paired comparisons of several labels
# make power             simulate the power of the paired comparisons
# make leak-proof        search on random labels: the nested estimate must be at chance
# make results HAM10000=... APTOS=...   measure again all that docs/results shows, from these two folders (hours)
# make bench-data        speed and memory of decoding and of cached epochs
# make bench-evaluate-large  time and memory of evaluate on 1,000,000 images × 100 classes, beside pandas and scikit-learn
# make bench-engines     two local workers and two independent processes
# make bench-evaluation  time and memory of all statistics of a large study
# make bench-features   features of a frozen backbone beside other runtimes
# make bench-heads       a thousand heads trained together and one by one
# make bench-inspect     time and memory of inspect on 100,000 images, and of a second run
# make bench-large       memory of tables larger than memory, to a million images
# make bench-losses      time and memory of the losses
# make bench-report      time of a report and size of its page by methods, classes and runs
# make bench-train       fine-tuning and a plain training loop: time per epoch
BIN := .venv/bin
# Modules and tests are compiled once, also where the environment forbids it: tests start many processes.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: setup demo test test-browser test-slow test-lowest audit check format wheel prove-kill prove-damage prove-engines fuzz coverage set-coverage false-alarms power bench-data bench-engines bench-evaluate-large bench-evaluation bench-features bench-heads bench-inspect bench-large bench-losses bench-report bench-train leak-proof false-alarms-labels results clean
setup: .venv/.installed
.venv/.installed: pyproject.toml constraints.txt scripts/setup.sh
	@sh scripts/setup.sh

demo: setup
	@$(BIN)/tametail compare demo -o runs/demo

test: setup
	@$(BIN)/python -m pytest -q

test-slow: setup
	@$(BIN)/python -m pytest -q -m slow

test-browser: setup
	@sh scripts/setup_browser.sh
	@$(BIN)/python -m pytest -q -m browser tests/browser

check: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/python scripts/check_language.py
	@$(BIN)/python scripts/import_graph.py --check
	@$(BIN)/lint-imports
	@$(BIN)/mypy

test-lowest:
	@sh scripts/test_lowest.sh

audit: setup
	@$(BIN)/python -m venv .venv-audit
	@.venv-audit/bin/python -m pip install --quiet --disable-pip-version-check 'pip-audit>=2.9'
	@.venv-audit/bin/pip-audit --path $(BIN)/../lib/python3*/site-packages

format: setup
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

wheel: setup
	@$(BIN)/python -m build --installer uv

prove-kill: setup
	@$(BIN)/python scripts/prove_kill.py

prove-engines: setup
	@sh scripts/setup_engines.sh
	@$(BIN)/python scripts/prove_engines.py

prove-damage: setup
	@$(BIN)/python scripts/prove_damage.py

fuzz: setup
	@$(BIN)/python scripts/fuzz.py

coverage: setup
	@$(BIN)/python scripts/coverage.py -o docs/results/coverage.md

set-coverage: setup
	@$(BIN)/python scripts/set_coverage.py -o docs/results/prediction-sets.md

false-alarms: setup
	@$(BIN)/python scripts/false_alarms.py -o docs/results/false-alarms.md

false-alarms-labels: setup
	@$(BIN)/python scripts/paired_labels.py -o docs/results/multi-label-comparisons.md

power: setup
	@$(BIN)/python scripts/power.py -o docs/results/power.md

leak-proof: setup
	@$(BIN)/python scripts/leak_proof.py -o docs/results/leak-proof.md

results: setup coverage set-coverage false-alarms false-alarms-labels leak-proof
	-@$(BIN)/python scripts/power.py -o docs/results/power.md # exits 1: one case is not reached, as the page says
	@$(BIN)/python scripts/results.py --ham10000 "$(HAM10000)" --aptos "$(APTOS)"
	@$(BIN)/python scripts/feature_variants.py "$(HAM10000)" "$(APTOS)" -o docs/results/features.md
	@$(BIN)/python scripts/label_flips.py demo "$(HAM10000)" -o docs/results/label-errors.md # the page has --cleanlab too, if it is installed
	@$(BIN)/python scripts/similar_images.py "$(HAM10000)" "$(APTOS)" -o docs/results/copies.md
	@$(BIN)/python scripts/foreign_images.py "$(HAM10000)" "$(APTOS)" -o docs/results/foreign-images.md
	@$(BIN)/tametail compare "$(APTOS)" --weights offline --class-order no_dr,mild,moderate,severe,proliferative_dr --methods 'ce,ce+la,corn,corn[decide=class],corn+la,soft_ordinal,soft_ordinal[distance=squared],soft_ordinal+la' -o runs/results/ordinal
	@$(BIN)/python scripts/ordinal.py runs/results/ordinal -o docs/results/ordinal.md
	@$(BIN)/tametail compare "$(HAM10000)" --weights offline --methods ce --recipe head -o runs/results/shift-ham10000
	@$(BIN)/tametail compare "$(APTOS)" --weights offline --methods ce --recipe head -o runs/results/shift-aptos
	@$(BIN)/python scripts/label_shift.py runs/results/shift-ham10000 runs/results/shift-aptos -o docs/results/label-shift.md # the page has QuaPy too, a package for tests
	@$(BIN)/tametail compare demo -o runs/results/demo && cp runs/results/demo/results.md docs/results/demo.md
	@$(BIN)/tametail report runs/results/demo --operating blast=0.9 && cp runs/results/demo/report.html docs/results/demo-report.html
	@$(BIN)/python benchmarks/data.py -o docs/results/data.md
	@$(BIN)/python benchmarks/evaluate_large.py -o docs/results/evaluate-large.md
	@$(BIN)/python benchmarks/evaluation.py -o docs/results/evaluation.md
	@$(BIN)/python benchmarks/features.py -o docs/results/features-speed.md
	@$(BIN)/python benchmarks/heads.py --data "$(HAM10000)" -o docs/results/heads.md
	@$(BIN)/python benchmarks/inspect_large.py -o docs/results/inspect-large.md
	@$(BIN)/python benchmarks/large_tables.py -o docs/results/large-tables.md
	@$(BIN)/python benchmarks/losses.py -o docs/results/losses.md
	@$(BIN)/python benchmarks/train.py --data "$(HAM10000)" -o docs/results/training.md

bench-data: setup
	@$(BIN)/python benchmarks/data.py

bench-evaluate-large: setup
	@$(BIN)/python benchmarks/evaluate_large.py

bench-engines: setup
	@$(BIN)/python benchmarks/engines.py

bench-evaluation: setup
	@$(BIN)/python benchmarks/evaluation.py

bench-features: setup
	@$(BIN)/python benchmarks/features.py

bench-heads: setup
	@$(BIN)/python benchmarks/heads.py

bench-inspect: setup
	@$(BIN)/python benchmarks/inspect_large.py

bench-large: setup
	@$(BIN)/python benchmarks/large_tables.py

bench-losses: setup
	@$(BIN)/python benchmarks/losses.py

bench-report: setup
	@$(BIN)/python benchmarks/report_size.py

bench-train: setup
	@$(BIN)/python benchmarks/train.py

clean:
	rm -rf .venv .venv-lowest .venv-audit .venv-engines dist runs .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
