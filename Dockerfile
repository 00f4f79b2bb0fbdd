# One image for every process of Chorus: say which one as the command, e.g. `serve --suite /suite/suite.toml`.
FROM python:3.12-slim AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/chorus
COPY requirements.lock ./
RUN /opt/chorus/bin/pip install --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY streams streams
COPY members members
COPY evaluator evaluator
RUN /opt/chorus/bin/pip install --no-deps --no-build-isolation .

FROM python:3.12-slim
RUN useradd --system --uid 10001 --create-home --home-dir /home/chorus chorus
COPY --from=build /opt/chorus /opt/chorus
ENV PATH=/opt/chorus/bin:$PATH PYTHONUNBUFFERED=1 CHORUS_WEB__HOST=0.0.0.0 CHORUS_WEB__PORT=8000
USER chorus
WORKDIR /home/chorus
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
ENTRYPOINT ["chorus"]
CMD ["--help"]
