"""Writes digits.bin from the wheel of scikit-learn; needs nothing but Python 3.

    python3 -m pip download --no-deps scikit-learn==1.9.1
    python3 convert.py scikit_learn-1.9.1-*.whl digits.bin
"""

import csv
import gzip
import hashlib
import io
import sys
import zipfile

MEMBER = "sklearn/datasets/data/digits.csv.gz"
IMAGES, PIXELS = 1797, 64


def convert(wheel: str) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        text = gzip.decompress(archive.read(MEMBER)).decode("ascii")
    packed = bytearray()
    for line, row in enumerate(csv.reader(io.StringIO(text)), start=1):
        values = [int(float(cell)) for cell in row]
        pixels, label = values[:PIXELS], values[PIXELS]
        if len(values) != PIXELS + 1 or max(pixels) > 16 or min(pixels) < 0 or not 0 <= label <= 9:
            raise SystemExit(f"line {line} is no image: {row}")
        packed += bytes(pixels) + bytes([label])
    if len(packed) != IMAGES * (PIXELS + 1):
        raise SystemExit(f"{len(packed)} bytes instead of {IMAGES * (PIXELS + 1)}")
    return bytes(packed)


if __name__ == "__main__":
    source, target = sys.argv[1:]
    data = convert(source)
    with open(target, "wb") as file:
        file.write(data)
    print(f"{len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}")
