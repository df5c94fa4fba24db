# The service alone: no training, no rivals, no tests. Scores come from a GPU where the image has PyTorch.
#   docker build -t quickstudy .
#   docker build -t quickstudy:cuda --build-arg EXTRAS=tracing,gpu \
#     --build-arg TORCH_INDEX_URL=https://download.pytorch.org/whl/cu130 .
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
# What of pyproject.toml's optional dependencies goes in, between commas.
ARG EXTRAS=tracing
# Which build of PyTorch comes with the extra gpu: empty for PyPI's own.
ARG TORCH_INDEX_URL=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/quickstudy
ENV PATH=/opt/quickstudy/bin:$PATH
WORKDIR /src

# From what changes least to what changes most: the dependencies, the code.
COPY requirements.lock ./
RUN pip install -c requirements.lock setuptools Cython
COPY pyproject.toml ./
RUN python -c "import sys, tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; print(*p['dependencies'], *(d for e in sys.argv[1].split(',') if e for d in p['optional-dependencies'][e]), sep='\n')" "$EXTRAS" > dependencies.txt \
    && pip install -c requirements.lock ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} -r dependencies.txt
COPY LICENSE README.md ./
COPY models/default models/default
COPY migrations migrations
COPY app app
# What is installed is done with pip and Cython; setuptools stays, for PyTorch asks for it.
RUN pip install --no-deps --no-build-isolation . && pip check && pip uninstall --yes pip Cython

FROM ${PYTHON_IMAGE}
# A folder of the host's in place of the volume must belong to this user, 10001.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/quickstudy \
        --shell /usr/sbin/nologin quickstudy \
    && install --directory --mode=700 --owner=quickstudy --group=quickstudy /var/lib/quickstudy
COPY --from=build /opt/quickstudy /opt/quickstudy
ENV PATH=/opt/quickstudy/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
USER quickstudy
# Where the database is that no setting names: a variable here would hide the one in /run/secrets.
WORKDIR /var/lib/quickstudy
VOLUME /var/lib/quickstudy
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
ENTRYPOINT ["quickstudy"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
