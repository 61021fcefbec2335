# Build: docker build -t imagegen:0.1.0 .     Run: docker run imagegen:0.1.0 api|worker

FROM python:3.11-slim-bookworm AS builder

RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_CACHE_DIR=/var/cache/pip
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY generated ./generated
COPY imagegen ./imagegen
COPY server ./server
# A cache mount is no part of the layer: a change of source re-installs, but downloads nothing again.
# hadolint ignore=DL3042
RUN --mount=type=cache,target=/var/cache/pip \
    pip install -c constraints.txt '.[server,embedded,s3]'


FROM python:3.11-slim-bookworm

LABEL org.opencontainers.image.title="imagegen" \
      org.opencontainers.image.description="Image-generation service: durable tasks over gRPC" \
      org.opencontainers.image.licenses="MIT"

RUN groupadd --gid 10001 imagegen \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin imagegen \
 && install --directory --owner=10001 --group=10001 --mode=0750 /var/lib/imagegen

COPY --from=builder /opt/venv /opt/venv

# The root file system may be read-only: byte code is compiled above, and api and worker keep everything in
# Redis and MongoDB. Only a SQLite store or file outputs need DATA_DIR: mount a volume there for those.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DATA_DIR=/var/lib/imagegen

WORKDIR /app
USER 10001:10001
EXPOSE 8080 9090

# Liveness. -I keeps the user's environment and the working directory out of it, -S makes it start fast;
# http.client, because urllib would send the request to a proxy named in the environment.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-IS", "-c", "import http.client, os; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('HTTP_PORT') or 9090), timeout=3); c.request('GET', '/health'); raise SystemExit(c.getresponse().status != 200)"]

# No init process: the server handles SIGTERM as PID 1 itself, and reaps the children it starts.
ENTRYPOINT ["python", "-m", "server"]
CMD ["api"]
