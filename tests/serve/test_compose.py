"""`deploy/compose.yaml`: the server takes what it is handed there, with PostgreSQL and without."""

import pathlib
import re

import psycopg
import yaml
from test_serve_command import MILD, started

from databases import new_database, shared_server

FILE = pathlib.Path(__file__).parents[2] / "deploy/compose.yaml"
SERVICES = yaml.safe_load(FILE.read_text())["services"]


def handed(store):
    """The server's environment, as compose fills it in."""
    written = SERVICES["wardgate"]["environment"]["WARDGATE_STORE"]
    assert written == "${WARDGATE_STORE:-}"
    return {"WARDGATE_STORE": store}


def test_the_address_that_the_file_tells_is_that_of_its_own_database():
    told = re.search(r'WARDGATE_STORE="postgresql://(\w+):\$WARDGATE_DB_PASSWORD@(\w+)/(\w+)"', FILE.read_text())
    database = SERVICES[told[2]]
    made = {"POSTGRES_USER": told[1], "POSTGRES_DB": told[3], "POSTGRES_PASSWORD": "${WARDGATE_DB_PASSWORD:-}"}
    assert database["environment"] == made
    waits = SERVICES["wardgate"]["depends_on"][told[2]]
    assert waits == {"condition": "service_healthy", "required": not database["profiles"]}


def test_decisions_are_kept_in_postgresql():
    url = new_database(shared_server())
    with started("--guard", "nano", env=handed(url)) as (_, client):
        rows = client.post("/v1/check", json={"input": [MILD, "Good morning."]}).raise_for_status().json()["results"]
        assert len(rows) == 2
        assert client.get("/review", follow_redirects=True).status_code == 200
        with psycopg.connect(url) as database:
            assert database.execute("SELECT count(*) FROM decisions").fetchone() == (2,)


def test_without_a_database_the_server_keeps_nothing():
    with started("--guard", "nano", env=handed("")) as (_, client):
        client.post("/v1/check", json={"input": MILD}).raise_for_status()
        assert client.get("/review").status_code == 404
