# The server on CPUs, without torch and compilers. docs/serve.md tells more.
#   docker build -t senet-convert .
#   docker run --rm --read-only -p 8000:8000 -v "$PWD/models:/models:ro" senet-convert
# Every package comes by its hash (locks/, made by `make lock`), the base by its digest. The image says what is in it:
#   docker run --rm --entrypoint cat senet-convert /opt/venv/sbom.cdx.json
ARG PYTHON=3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

FROM python:${PYTHON} AS build
RUN python -m venv /opt/venv
RUN python -m venv /opt/build
COPY locks pyproject.toml README.md LICENSE /source/
RUN /opt/venv/bin/python -m pip install --no-cache-dir --require-hashes -r /source/serve-cpu.txt
RUN /opt/build/bin/python -m pip install --no-cache-dir --require-hashes -r /source/build.txt
COPY senet_convert /source/senet_convert
RUN /opt/build/bin/python -m pip wheel --no-deps --no-build-isolation -w /opt/wheels /source
RUN /opt/venv/bin/python -m pip install --no-deps --no-index --find-links /opt/wheels senet-convert
RUN /opt/build/bin/cyclonedx-py environment --output-reproducible -o /opt/venv/sbom.cdx.json /opt/venv

FROM python:${PYTHON}
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
EXPOSE 8000 8001
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=4)"]
ENTRYPOINT ["senet-convert", "serve", "--host", "0.0.0.0", "--port", "8000", "--grpc-port", "8001"]
CMD ["--repository", "/models"]
