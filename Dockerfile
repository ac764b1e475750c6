# The server on CPUs, without torch and compilers. docs/serve.md tells more.
#   docker build -t senet-convert .
#   docker run --rm --read-only -p 8000:8000 -v "$PWD/models:/models:ro" senet-convert
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS build
RUN python -m venv /opt/venv
COPY constraints.txt pyproject.toml README.md LICENSE /source/
COPY senet_convert /source/senet_convert
RUN /opt/venv/bin/python -m pip install --no-cache-dir -c /source/constraints.txt "/source[cpu,grpc,otel]"

FROM python:${PYTHON}
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
EXPOSE 8000 8001
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=4)"]
ENTRYPOINT ["senet-convert", "serve", "--host", "0.0.0.0", "--port", "8000", "--grpc-port", "8001"]
CMD ["--repository", "/models"]
