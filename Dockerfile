# metaloop in a container: docker build -t metaloop . && docker run --rm -v "$PWD/outputs:/work/outputs" metaloop train algorithm=maml
# For GPUs, name the index of torch's builds for your CUDA: --build-arg TORCH_INDEX=URL. The version of torch is the same.
FROM python:3.11-slim

# A compiler for the kernels of convolutions on the CPU; without one they run as plain torch.
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*

ARG TORCH_INDEX=
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch==2.13.0

COPY pyproject.toml constraints.txt README.md LICENSE /opt/metaloop/
COPY src /opt/metaloop/src
COPY conf /opt/metaloop/conf
ARG EXTRAS=search
RUN pip install --no-cache-dir --constraint /opt/metaloop/constraints.txt "/opt/metaloop[$EXTRAS]"

WORKDIR /work
ENTRYPOINT ["metaloop"]
CMD ["doctor"]
