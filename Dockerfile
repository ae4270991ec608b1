# The exporter's image. BASE needs Python 3.11 or later as python3, and pip for the build; what runs needs no shell.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
WORKDIR /src
RUN python3 -m venv --without-pip /opt/vendor-alert-exporter
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
# First what changes rarely. The build backend stays out of the image: it has an environment of its own.
COPY requirements/image.txt requirements/build.txt requirements/
RUN python3 -m venv --without-pip /opt/build \
 && python3 -m pip --python /opt/build/bin/python install --require-hashes --no-deps -r requirements/build.txt \
 && python3 -m pip --python /opt/vendor-alert-exporter/bin/python install --require-hashes --no-deps --no-compile \
      -r requirements/image.txt
COPY pyproject.toml README.md LICENSE ./
COPY exporter exporter
# Bytecode is compiled here, as nothing can be written later. Checked hashes make it independent of file times.
RUN /opt/build/bin/python -m hatchling build -t wheel -d /tmp/wheel \
 && python3 -m pip --python /opt/vendor-alert-exporter/bin/python install --no-deps --no-compile /tmp/wheel/*.whl \
 && PYTHONHASHSEED=0 /opt/vendor-alert-exporter/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/vendor-alert-exporter

FROM ${BASE}
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="vendor-alert-exporter" \
      org.opencontainers.image.description="Prometheus metrics from vendors' alert centres" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/vendor-alert-exporter /opt/vendor-alert-exporter
ENV PATH=/opt/vendor-alert-exporter/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    VENDOR_ALERT_EXPORTER_REVISION="${REVISION}"
USER 65532:65532
EXPOSE 10877
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["vendor-alert-exporter", "healthcheck"]
ENTRYPOINT ["vendor-alert-exporter"]
