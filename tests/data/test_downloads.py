"""Images that a table names by addresses, from a server of this machine."""

from __future__ import annotations

import io
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from sekd.config import DatasetSpec
from sekd.data import downloads
from sekd.data.images import read_image
from sekd.data.samples import Dataset
from sekd.errors import SampleError

ASKED: Counter[str] = Counter()


class Pictures(BaseHTTPRequestHandler):
    """Answers with a picture, with an error, or the second time only."""

    def do_GET(self) -> None:
        ASKED[self.path] += 1
        if self.path == "/gone.png":
            self.send_error(404)
        elif self.path == "/busy.png" and ASKED[self.path] == 1:
            self.send_error(503)
        else:
            buffer = io.BytesIO()
            Image.new("RGB", (8, 6), "red").save(buffer, "PNG")
            self.send_response(200)
            self.end_headers()
            self.wfile.write(buffer.getvalue())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    ASKED.clear()
    monkeypatch.setattr(downloads, "_DELAYS", (0.0, 0.0))
    with ThreadingHTTPServer(("127.0.0.1", 0), Pictures) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


def dataset(folder: Path, server: str, *, asks: bool) -> Dataset:
    (folder / "t.json").write_text('{"gull": ["bird", "gull"]}', encoding="utf-8")
    Image.new("RGB", (8, 6), "blue").save(folder / "own.png")
    names = [f"{server}/a.png?size=1", f"{server}/gone.png", f"{server}/busy.png", "own.png"]
    rows = "".join(f"{name},gull\n" for name in names)
    (folder / "t.csv").write_text(f"image,label\n{rows}", encoding="utf-8")
    spec = DatasetSpec(
        taxonomy=folder / "t.json",
        table=folder / "t.csv",
        downloads=folder / "downloads" if asks else None,
    )
    return Dataset.load("birds", spec)


def test_addresses_are_downloaded_once_where_the_config_asks_for_it(
    tmp_path: Path, server: str
) -> None:
    samples = list(dataset(tmp_path, server, asks=True).samples)
    assert [sample.id.rpartition("/")[2] for sample in samples] == [
        *("a.png?size=1", "gone.png", "busy.png", "own.png"),
    ]
    for index in (0, 2, 3):
        assert read_image(samples[index].image).size == (8, 6)
    with pytest.raises(SampleError, match=r"gone.png: it cannot be downloaded: .*404"):
        read_image(samples[1].image)
    assert ASKED == {"/a.png?size=1": 1, "/gone.png": 1, "/busy.png": 2}
    again = list(dataset(tmp_path, server, asks=True).samples)
    assert again[0] == samples[0]
    assert ASKED["/a.png?size=1"] == 1
    assert ASKED["/gone.png"] == 2


def test_nothing_is_downloaded_unless_it_is_asked_for(tmp_path: Path, server: str) -> None:
    first = dataset(tmp_path, server, asks=False).samples[0]
    with pytest.raises(SampleError, match="`downloads` of the dataset fetches it"):
        read_image(first.image)
    assert not ASKED
