# The image of batch-job-controller: Python, the locked dependencies, the package, and nothing else. See docs/container.md.
#   docker build --build-arg VERSION=… --build-arg REVISION="$(git rev-parse HEAD)" -t batch-job-controller .
# To pin the base by digest: --build-arg PYTHON_IMAGE=docker.io/library/python:3.13-slim@sha256:…
ARG PYTHON_IMAGE=docker.io/library/python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build

# The build's own tools: they stay in this stage.
COPY requirements-image.txt ./
RUN python -m venv tools \
    && tools/bin/python -m pip install --require-hashes --only-binary :all: -r requirements-image.txt

# The environment in its final place, because its scripts carry their path. No pip in it.
COPY requirements.txt ./
RUN python -m venv --without-pip /opt/batch-controller \
    && tools/bin/python -m pip --python /opt/batch-controller/bin/python install \
        --no-compile --require-hashes --only-binary :all: -r requirements.txt

COPY pyproject.toml README.md ./
COPY controller controller
COPY deploy/image/make_rootfs.py ./
RUN tools/bin/python -m hatchling build -t wheel -d dist \
    && tools/bin/python -m pip --python /opt/batch-controller/bin/python install --no-compile --no-deps dist/*.whl \
    && sed "s/^dynamic = .*/version = \"$(tools/bin/hatchling version)\"/" pyproject.toml > subject.toml \
    && tools/bin/cyclonedx-py environment --pyproject subject.toml --mc-type application \
        --spec-version 1.6 --output-reproducible --output-format JSON --output-file sbom.cdx.json \
        /opt/batch-controller/bin/python \
    && python make_rootfs.py --environment /opt/batch-controller --package controller \
        --distribution batch-job-controller --script batch-controller --sbom sbom.cdx.json --out /image

FROM scratch
COPY --from=build /image/runtime/ /
COPY --from=build /image/dependencies/ /
COPY --from=build /image/application/ /

ENV PATH=/opt/batch-controller/bin:/usr/local/bin \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    BATCH_CONTROLLER_STORE__URL=sqlite:////var/lib/batch-controller/state.db

USER 65532:65532
WORKDIR /var/lib/batch-controller
VOLUME ["/var/lib/batch-controller"]
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/batch-controller/bin/batch-controller"]
CMD ["run"]

# Last, so that a new revision changes no layer.
ARG VERSION=0.0.0
ARG REVISION=unknown
ARG SOURCE=
LABEL org.opencontainers.image.title="batch-job-controller" \
      org.opencontainers.image.description="Submits AWS Batch jobs from SQS exactly once, within limits, and reports how each one ended." \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.licenses="Apache-2.0"
