"""What comes from outside cannot run, reach out or exhaust; what is secret is not written down."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import io
import os
import pickle
import resource
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import zstandard

from fineedu.classify.bundle import bundle_folder, load_bundle, read_bundle
from fineedu.download import download, public_url, unpack
from fineedu.errors import FineeduError
from fineedu.recipe import load_recipe
from fineedu.runner import execute, plan_run
from tests.archives import html_page, response, write_warc
from tests.conftest import ROOT, Cli


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FINEEDU_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def hashed(path: Path) -> str:
    return f"file://{path}#sha256={hashlib.sha256(path.read_bytes()).hexdigest()}"


def test_a_recipe_by_url_needs_its_hash(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "there.yaml"
    path.write_text("name: there\nselect: {rules: {long: text_bytes > 100}}\n")
    url = hashed(path)
    assert load_recipe(url).recipe.name == "there"
    with pytest.raises(FineeduError, match="only with its hash"):
        load_recipe(f"file://{path}")
    path.write_text("name: there\nselect: {rules: {}}\n")
    assert load_recipe(url).recipe.select.rules, "what has been checked is kept"
    shutil.rmtree(cache)
    with pytest.raises(FineeduError, match="it is not what you asked for"):
        load_recipe(url)
    assert not list(cache.rglob("*.yaml"))


def test_a_download_has_an_end(tmp_path: Path) -> None:
    path = tmp_path / "big"
    path.write_bytes(b"x" * 5000)
    with pytest.raises(FineeduError, match="more than 4,000 bytes"):
        download(hashed(path), 4000)
    with pytest.raises(FineeduError, match="cannot read"):
        download(f"file://{tmp_path}/missing#sha256={'0' * 64}", 4000)


def test_a_model_by_url(tmp_path: Path) -> None:
    source = ROOT / "models" / "edu-static"
    archive = tmp_path / "model.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        for path in source.rglob("*"):
            if path.is_file():
                zipped.write(path, f"edu-static/{path.relative_to(source)}")
    folder = bundle_folder(hashed(archive))
    assert read_bundle(folder) == read_bundle(source)
    load_bundle(folder)


@pytest.mark.parametrize("name", ["../planted", "/planted", "a/../../planted", "..\\planted", "C:\\planted"])
def test_a_zip_cannot_leave_its_folder(tmp_path: Path, name: str) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr(name, "x")
    (tmp_path / "out").mkdir()
    with pytest.raises(FineeduError, match="leads out of its folder"):
        unpack(archive, tmp_path / "out", "a.zip")
    assert not list(tmp_path.rglob("*planted*"))


def test_links_and_bombs_in_a_zip(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        zipped.writestr(link, "/etc/passwd")
    (tmp_path / "out").mkdir()
    with pytest.raises(FineeduError, match="leads out"):
        unpack(archive, tmp_path / "out", "a.zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("weights", bytes(50_000_000))
    with pytest.raises(FineeduError, match="come out of the zip"):
        unpack(archive, tmp_path / "out", "a.zip", limit=2_000_000)
    assert sum(path.stat().st_size for path in (tmp_path / "out").rglob("*")) <= 3_000_000
    with zipfile.ZipFile(archive, "w") as zipped:
        for number in range(1200):
            zipped.writestr(str(number), "")
    with pytest.raises(FineeduError, match="1,200 files"):
        unpack(archive, tmp_path / "out", "a.zip")


class _Planted:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch planted-by-pickle",)


def test_no_pickle_in_a_model_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "models" / "edu-static", tmp_path / "model")
    bundle = read_bundle(tmp_path / "model")
    stream = io.BytesIO()
    np.savez(stream, planted=np.array([_Planted()], dtype=object))
    for evil in (stream.getvalue(), pickle.dumps(_Planted())):
        for name in (bundle.weights, *bundle.files):
            (tmp_path / "model" / name).write_bytes(evil)
        text = (ROOT / "models/edu-static/bundle.json").read_text()
        for old in (bundle.weights_sha256, *bundle.files.values()):
            text = text.replace(old, hashlib.sha256(evil).hexdigest())
        (tmp_path / "model" / "bundle.json").write_text(text)
        with pytest.raises(FineeduError):
            load_bundle(tmp_path / "model")
    assert not (tmp_path / "planted-by-pickle").exists()


def test_code_that_loads_pickles_is_not_there() -> None:
    risky = (
        "import pickle",
        "pickle.load",
        "joblib.load",
        "torch.load(",
        "yaml.load(",
        "allow_pickle=True",
        "yaml.unsafe",
    )
    found = [
        f"{path.name}: {word}"
        for path in (ROOT / "fineedu").rglob("*.py")
        for word in risky
        if word in path.read_text(encoding="utf-8")
    ]
    assert not found


@pytest.mark.parametrize(
    "pack",
    [gzip.compress, zstandard.compress],
    ids=["gzip", "zstd"],
)
def test_a_bomb_of_a_record_costs_no_memory(pack: object, tmp_path: Path) -> None:
    bomb = response(html_page("a" * 400_000_000), "http://bomb.example/")
    folder = tmp_path / "in"
    folder.mkdir()
    name = "a.warc.gz" if pack is gzip.compress else "a.warc.zst"
    (folder / name).write_bytes(pack(bomb) + pack(response(html_page("plain words " * 30))))  # type: ignore[operator]
    del bomb
    script = (
        "import sys; from fineedu.runner import execute, plan_run; from pathlib import Path\n"
        "r = execute(plan_run('minimal', inputs=[sys.argv[1]], output=Path(sys.argv[2])), workers=1)\n"
        "assert r.pages == 2, r\n"
    )

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (2 << 30, 2 << 30))

    done = subprocess.run(
        [sys.executable, "-c", script, str(folder), str(tmp_path / "out")],
        preexec_fn=limit,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_names_in_records_make_no_paths(tmp_path: Path) -> None:
    evil = [
        "../../planted",
        "/tmp/planted",
        "..\\planted",
        "a\0b",
        "CON",
        "x" * 5000,
        "${HOME}/planted",
        "%2e%2e/planted",
    ]
    records = [
        response(html_page("words about plants " * 40), f"http://{name}/{name}", record_id=f"<urn:uuid:{name}>")
        for name in (part.replace("\0", "%00") for part in evil)
    ]
    write_warc(tmp_path / "in" / "a.warc.gz", records)
    result = execute(plan_run("minimal", inputs=[str(tmp_path / "in")], output=tmp_path / "out"), workers=1)
    assert result.documents >= len(evil) - 1
    assert not [path for path in tmp_path.rglob("*") if "planted" in path.name or len(path.name) > 100]
    with pytest.raises(FineeduError, match="letters, digits"):
        plan_run("minimal", inputs=[str(tmp_path / "in")], output=tmp_path / "out", dump="../../x")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:pass@a.example/x.warc.gz", "https://a.example/x.warc.gz"),
        ("https://a.example/x?X-Amz-Signature=abc&X-Amz-Date=1&part=2", "https://a.example/x?part=2"),
        ("https://a.example/x?token=abc", "https://a.example/x"),
        ("s3://bucket/a@b.warc.gz", "s3://bucket/a@b.warc.gz"),
        ("/data/x?y.warc.gz", "/data/x?y.warc.gz"),
    ],
)
def test_urls_as_written_down(url: str, shown: str) -> None:
    assert public_url(url) == shown


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        return


SECRET = "planted-secret-9f2c"


def test_secrets_are_in_no_file_and_no_message(cli: Cli, crawl: Path, tmp_path: Path) -> None:
    handler = functools.partial(_Quiet, directory=str(crawl))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        secrets = {name: SECRET for name in ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "OPENAI_API_KEY")}
        environment = os.environ | secrets | {"PYTHONPATH": str(ROOT)}
        good = [part for n in range(3) for part in ("-i", f"{address}/part-{n}.warc.gz?X-Amz-Signature={SECRET}")]
        done = cli("run", "minimal", *good, "-o", "out", "--workers", "1", env=environment)
        assert done.returncode == 0, done.stderr
        missing = cli("run", "minimal", "-i", f"{address}/no.gz?token={SECRET}", "-o", "out", env=environment)
        server.shutdown()
    assert missing.returncode == 2
    gone = cli("run", "minimal", *good, "-o", "other", env=environment)  # the server has gone
    assert gone.returncode == 2
    assert SECRET not in done.stdout + done.stderr + missing.stderr + gone.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "manifest.json" for path in files)
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


def test_a_failed_task_logs_no_values(crawl: Path, tmp_path: Path, cli: Cli) -> None:
    environment = os.environ | {"AWS_SECRET_ACCESS_KEY": SECRET, "PYTHONPATH": str(ROOT)}
    assert cli("run", "minimal", "-i", crawl, "-o", "out", "--workers", "1", env=environment).returncode == 0
    shard = tmp_path / "out/documents/dump=local/00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-100])
    assert cli("run", "minimal", "-i", crawl, "-o", "out", "--workers", "2", env=environment).returncode == 2
    logs = list((tmp_path / "out").rglob("task_*.log"))
    assert any(b"FineeduError" in path.read_bytes() for path in logs)
    assert not [path for path in logs if SECRET.encode() in path.read_bytes()]
