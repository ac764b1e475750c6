# Two commands do all set-up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint format proto lock clean

demo: $(STAMP)  ## convert the embedded network and reproduce Caffe's results on its images
	$(BIN)/senet-convert demo

test: $(STAMP)  ## the whole test suite
	$(BIN)/python -m pytest -n 2

lint: $(STAMP)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

proto: $(STAMP)  ## regenerate the Python code of caffe.proto
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. senet_convert/proto/caffe.proto

# With hashes, for the images; the versions are those of constraints.txt. senet-convert itself is built from its source.
COMPILE := -m piptools compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-annotate --no-header \
	--no-emit-index-url --no-emit-options --no-emit-trusted-host --upgrade --constraint constraints.txt
lock: $(STAMP)  ## write locks/ anew
	$(BIN)/python $(COMPILE) -o locks/build.txt locks/build.in
	$(BIN)/python $(COMPILE) --extra cpu --extra grpc --extra otel -o locks/serve-cpu.txt pyproject.toml
	$(BIN)/python $(COMPILE) --extra gpu --extra grpc --extra otel -o locks/serve-cuda.txt pyproject.toml
	sed -i '/^senet-convert @/d; /^#/d; /^$$/d' locks/*.txt

# torch is installed first, and pinned: any other version would bring gigabytes of CUDA with it.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("senet-convert needs Python 3.11 or newer; set PYTHON=python3.11") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,test,lint]'
	touch $@

clean:
	rm -rf $(VENV) demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
