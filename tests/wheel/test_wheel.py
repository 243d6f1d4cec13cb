"""The wheel, built and installed into an empty environment, works outside the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("build")
ROOT = Path(__file__).parents[2]


def run(command, **options):
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, timeout=600, **options
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    done = run([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT])
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    (path,) = built.glob("*.whl")
    return path


def test_the_wheel_holds_what_it_needs_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert all(name.startswith(("wardgate/", "wardgate-")) for name in names)
    for needed in ("bundles/mini/model.onnx", "bundles/mini/bundle.json", "policy/shipped/default.yaml", "py.typed"):
        assert f"wardgate/{needed}" in names
    assert not [name for name in names if "test" in Path(name).parts or name.endswith((".pyc", ".sqlite3"))]
    assert wheel.stat().st_size < 60_000_000


def test_the_source_archive_holds_no_data(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = archive.getnames()
    assert any(name.endswith("/src/wardgate/__init__.py") for name in names)
    assert not [name for name in names if "/shared/" in name or "/.venv/" in name]


@pytest.mark.slow
def test_a_clean_environment_outside_the_checkout(wheel, tmp_path):
    assert run([sys.executable, "-m", "venv", tmp_path / "env"]).returncode == 0
    python = tmp_path / "env" / "bin" / "python"
    done = run([python, "-m", "pip", "install", "--quiet", wheel])
    assert done.returncode == 0, done.stderr
    outside = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = run(
        [python, "-m", "wardgate", "check", "How do I bake bread?", "I will kill you.", "--json"],
        cwd=tmp_path,
        env=outside,
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, [row["action"] for row in rows]) == (10, ["allow", "block"]), done.stderr
    (tmp_path / "in.jsonl").write_text('{"text": "How do I bake bread?"}\n')
    done = run([python, "-m", "wardgate", "batch", "in.jsonl", "out.csv"], cwd=tmp_path, env=outside)
    assert done.returncode == 0, done.stderr
    done = run([python, "-m", "wardgate", "batch", "in.jsonl", "out.parquet"], cwd=tmp_path, env=outside)
    told = "wardgate: Parquet files need pyarrow: pip install 'wardgate[batch]'"
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, told)
    assert not (tmp_path / "out.parquet.wardgate").exists()
    for module in ("torch", "transformers", "fastapi", "pyarrow", "ray"):
        assert run([python, "-c", f"import {module}"], cwd=tmp_path, env=outside).returncode == 1
    for command in (["guards"], ["policy", "check", "default"], ["--help"], ["serve", "--help"]):
        done = run([python, "-m", "wardgate", *command], cwd=tmp_path, env=outside)
        assert done.returncode == 0, (command, done.stderr)
