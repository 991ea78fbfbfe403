# make demo   sets up .venv and compares losses on the built-in synthetic demo set, into runs/demo
# make test   sets up .venv and runs all tests
# make test-browser  opens the reports in a headless Chromium that is installed already; downloads no browser
# make coverage  how often the intervals hold the truth, by simulation
# make check  lint, formatting, types, import layers
# make bench-data  images/s of decoding and of cached epochs, beside Pillow, torchvision and OpenCV; memory
# make bench-train  fine-tuning beside a plain loop: time of an epoch, and what of it is not the network's own
# make bench-evaluation  time and memory of all statistics of a large study, beside loops over resamples
# make bench-heads  a thousand heads trained together beside one at a time; fails where that is not worth it
# make bench-losses  times and memory of the losses, beside torch's BCE and the released forms
# make false-alarms  how often paired comparisons see a difference where there is none; do their intervals hold
# make leak-proof  a search on random labels: the nested estimate is at chance, the score of the choice above it
BIN := .venv/bin

.PHONY: setup demo test test-browser check format wheel prove-kill coverage false-alarms bench-data bench-evaluation bench-heads bench-losses bench-train leak-proof clean
setup: .venv/.installed
.venv/.installed: pyproject.toml constraints.txt scripts/setup.sh
	@sh scripts/setup.sh

demo: setup
	@$(BIN)/tametail compare demo -o runs/demo

test: setup
	@$(BIN)/python -m pytest -q

test-browser: setup
	@sh scripts/setup_browser.sh
	@$(BIN)/python -m pytest -q -m browser tests/browser

check: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: setup
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

wheel: setup
	@$(BIN)/python -m build --installer uv

prove-kill: setup
	@$(BIN)/python scripts/prove_kill.py
	@$(BIN)/python scripts/prove_kill.py --recipe head --kills 30

coverage: setup
	@$(BIN)/python scripts/coverage.py -o docs/results/coverage.md

bench-data: setup
	@$(BIN)/python benchmarks/data.py

bench-evaluation: setup
	@$(BIN)/python benchmarks/evaluation.py

bench-heads: setup
	@$(BIN)/python benchmarks/heads.py

bench-losses: setup
	@$(BIN)/python benchmarks/losses.py

bench-train: setup
	@$(BIN)/python benchmarks/train.py

false-alarms: setup
	@$(BIN)/python scripts/false_alarms.py -o docs/results/false-alarms.md

leak-proof: setup
	@$(BIN)/python scripts/leak_proof.py -o docs/results/leak-proof.md

clean:
	rm -rf .venv dist runs .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
