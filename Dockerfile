# The backend alone; compose.yaml puts a Label Studio beside it.
#   docker build -t usl-backend .
# Nothing secret is needed to build; tokens and passwords come from the environment when the container starts.

# A tag moves on with Debian's security updates. To build the same bytes again, pin it by what
# `docker buildx imagetools inspect python:3.11-slim-bookworm` prints:
#   --build-arg PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:...
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
# CPU wheels of torch: 0.2 GB where the CUDA ones are 2.6 GB. For a GPU give the index of your CUDA version.
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/usl-backend
ENV PATH=/opt/usl-backend/bin:$PATH
WORKDIR /src
# Before the sources, so that this layer survives a change of ours.
COPY requirements.txt ./
RUN pip install --no-compile --index-url "${TORCH_INDEX_URL}" --constraint requirements.txt torch torchvision
COPY pyproject.toml README.md LICENSE ./
COPY usl_backend ./usl_backend
# Removed is what is never run here: tests, headers, pip, and OpenCV, which label-studio-sdk wants for brushes alone. Bytecode
# is written of what runs import; of the 400 models of transformers that is MiniLM's.
RUN pip install --no-compile --constraint requirements.txt "./[map,text]" \
    && pip uninstall --yes opencv-python-headless pip \
    && site=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \
    && find "$site" -type d -name tests -prune -exec rm -rf {} + \
    && rm -rf "$site"/torch/include "$site"/torch/test "$site"/torch/share "$site"/torch/bin/*[Tt]est* \
        "$site"/torch/bin/protoc* \
    && python -m compileall -q -x '/(transformers/models/(?!auto|bert/)|torch/testing/_internal/|networkx/|nltk/)' "$site"

FROM ${PYTHON_IMAGE}
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin usl \
    && install --directory --owner=usl --group=usl /data
COPY --from=build /opt/usl-backend /opt/usl-backend
ENV PATH=/opt/usl-backend/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    MODEL_DIR=/data \
    USL_HOST=0.0.0.0 \
    USL_PORT=9090
VOLUME ["/data"]
EXPOSE 9090
USER 10001:10001
WORKDIR /data
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ['USL_PORT']}/livez\", timeout=4)"]
ENTRYPOINT ["usl-backend"]
CMD ["serve"]
