# One image for every process of the platform: `python -m handlers`, `-m projections`, `-m gateway`, ...

FROM python:3.11-slim AS build
WORKDIR /src
RUN python -m venv /opt/stratus
COPY requirements.runtime.lock .
RUN /opt/stratus/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --require-hashes -r requirements.runtime.lock
COPY pyproject.toml README.md LICENSE ./
COPY core core
COPY gateway gateway
COPY handlers handlers
COPY migrations migrations
COPY projections projections
RUN /opt/stratus/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation .

FROM python:3.11-slim
RUN useradd --system --create-home --home-dir /data --uid 10001 stratus
COPY --from=build /opt/stratus /opt/stratus
ENV PATH=/opt/stratus/bin:$PATH PYTHONUNBUFFERED=1 MALLOC_ARENA_MAX=2 STRATUS_DATA_DIR=/data STRATUS_HOST=0.0.0.0
USER stratus
WORKDIR /data
VOLUME /data
EXPOSE 8080
ENTRYPOINT ["python", "-m"]
CMD ["gateway"]
