"""The server on a local Ray: the same answers, error formats and batching through Ray Serve's proxy."""

import concurrent.futures
import pathlib

import httpx
import pytest
import yaml
from conftest import FakeEngine

from wardgate.serve import create_app

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def url():
    from ray import serve

    from wardgate.serve.ray_app import deployment

    here = str(pathlib.Path(__file__).parent)
    ray.init(num_cpus=2, include_dashboard=False, runtime_env={"env_vars": {"PYTHONPATH": here}})
    serve.start(http_options={"host": "127.0.0.1", "port": 8123})
    serve.run(deployment(lambda: create_app(FakeEngine("default"))), route_prefix="/")
    yield "http://127.0.0.1:8123"
    serve.shutdown()
    ray.shutdown()


def test_the_same_answers_and_errors(url):
    answer = httpx.post(f"{url}/v1/check", json={"input": ["fine", "an insult"]}, timeout=30)
    assert [row["action"] for row in answer.json()["results"]] == ["allow", "block"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    wrong = httpx.post(f"{url}/v1/moderations", json={"input": 7}, timeout=30)
    assert (wrong.status_code, wrong.json()["error"]["type"]) == (400, "invalid_request_error")
    assert httpx.get(f"{url}/readyz", timeout=30).status_code == 200


def test_many_at_once(url):
    with httpx.Client(timeout=60) as client, concurrent.futures.ThreadPoolExecutor(16) as pool:
        asked = [{"text": f"insult {i}" if i % 2 else f"fine {i}", "id": str(i)} for i in range(200)]
        answers = pool.map(lambda item: client.post(f"{url}/v1/check", json={"input": item}).json(), asked)
        rows = [answer["results"][0] for answer in answers]
    assert [row["id"] for row in rows] == [item["id"] for item in asked]
    assert [row["action"] for row in rows] == ["allow", "block"] * 100


def test_a_cluster_that_does_not_start_is_told_and_not_a_traceback(monkeypatch):
    from wardgate.serve import ray_app

    def late(**_options):
        raise Exception("The current node timed out during startup.")  # noqa: TRY002 - as Ray does

    monkeypatch.setattr(ray_app.ray, "init", late)
    with pytest.raises(RuntimeError, match="timed out during startup"):
        ray_app.run(lambda: create_app(FakeEngine("default")), ray_app.Place("127.0.0.1", 0, 1, None))


def test_the_shipped_configuration_is_what_ray_takes():
    from ray.serve.schema import ServeDeploySchema

    from wardgate.serve.ray_app import Arguments
    from wardgate.serve.settings import Settings

    config = ServeDeploySchema.model_validate(yaml.safe_load((ROOT / "deploy/ray/serve.yaml").read_text()))
    arguments = Arguments.model_validate(config.applications[0].args)
    Settings(**arguments.settings)
