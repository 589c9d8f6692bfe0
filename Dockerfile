# irestore on a CPU: docker build -t irestore . && docker run --rm -v "$PWD:/pictures" irestore sr -x4 photo.png
FROM python:3.13-slim
RUN pip install --no-cache-dir torch --index-url https://download.pytorch.org/whl/cpu
COPY . /irestore
RUN pip install --no-cache-dir '/irestore[heic,jxl]' && rm -r /irestore
WORKDIR /pictures
ENTRYPOINT ["irestore"]
CMD ["--help"]
