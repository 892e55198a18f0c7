# relay in a container, as a user without rights, with everything it keeps in /data:
#
#   docker build -t relay .
#   docker run --init -p 8080:8080 -v relay:/data -v ./relay.toml:/data/relay.toml:ro relay serve --config relay.toml
#   docker exec CONTAINER relay keys create NAME --role admin --local
#
# --read-only works. /dev/shm must stay writable (it is, unless a runtime is told otherwise): the worker processes of
# chat and mail need it. `docker stop` waits 10 s, the drain takes up to 8 (server.drain_timeout); raise both together.
# --init reaps the workers' children.

ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements.txt requirements-build.txt ./
RUN python -m venv --without-pip /opt/relay \
 && pip --python /opt/relay/bin/python install --quiet --require-hashes -r requirements.txt \
 && pip install --quiet --require-hashes -r requirements-build.txt
COPY pyproject.toml README.md LICENSE ./
COPY config/ config/
COPY relay/ relay/
RUN python -m hatchling build -t wheel -d /dist \
 && pip --python /opt/relay/bin/python install --quiet --no-deps --no-index /dist/*.whl

FROM python:${PYTHON}-slim
RUN groupadd --gid 10001 relay \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin relay \
 && install -d -m 0700 -o 10001 -g 10001 /data
COPY --from=build /opt/relay /opt/relay
# The default store.url is relative: the database is /data/relay.db, and a configuration file may still name another.
ENV PATH=/opt/relay/bin:$PATH PYTHONDONTWRITEBYTECODE=1 RELAY_SERVER__HOST=0.0.0.0 RELAY_SERVER__PORT=8080
WORKDIR /data
VOLUME /data
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 CMD ["python", "-m", "relay.healthcheck"]
ENTRYPOINT ["relay"]
CMD ["serve"]
