# irestore on a CPU: docker build -t irestore . && docker run --rm -u "$(id -u):$(id -g)" -v "$PWD:/pictures" irestore sr -x4 photo.png
ARG PYTHON=3.13
FROM python:${PYTHON}-slim
COPY constraints.txt /irestore/
RUN pip install --no-cache-dir -c /irestore/constraints.txt torch --index-url https://download.pytorch.org/whl/cpu
COPY . /irestore
RUN pip install --no-cache-dir -c /irestore/constraints.txt '/irestore[heic,jxl]' && rm -r /irestore
WORKDIR /pictures
ENTRYPOINT ["irestore"]
CMD ["--help"]
