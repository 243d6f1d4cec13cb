from __future__ import annotations

import os
import shutil
import sys

import pandas as pd
import pytest

from hash_engine import HashEngine
from wardgate import Engine
from wardgate.batch.frames import decision_columns
from wardgate.batch.verdicts import COLUMNS

TEXTS = ["How do I bake bread?", "I will kill you."]


def test_columns_say_what_the_engine_says():
    engine = HashEngine()
    columns = decision_columns(engine, TEXTS, ["yes", None])
    assert list(columns) == list(COLUMNS)
    assert columns["wardgate_id"] == ["1", "2"]
    assert columns["wardgate_unsafe"][1] == pytest.approx(engine.check_many([TEXTS[1]])[0].unsafe, abs=1e-6)
    assert columns["wardgate_hate"] == [None, None]


def test_no_texts_give_empty_columns():
    assert decision_columns(HashEngine(), []) == {name: [] for name in COLUMNS}


def test_responses_must_match():
    with pytest.raises(ValueError, match="zip"):
        decision_columns(HashEngine(), TEXTS, ["one"])


def test_pandas_takes_them():
    frame = pd.DataFrame({"text": TEXTS})
    frame = frame.join(pd.DataFrame(decision_columns(Engine.default(), frame["text"]), index=frame.index))
    assert frame["wardgate_action"].tolist() == ["allow", "block"]


def test_polars_takes_them():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"text": TEXTS})
    frame = frame.hstack(polars.DataFrame(decision_columns(Engine.default(), frame["text"])))
    assert frame["wardgate_action"].to_list() == ["allow", "block"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Spark's own warnings
@pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java")
def test_spark_takes_them(monkeypatch):
    sql = pytest.importorskip("pyspark.sql")
    monkeypatch.setitem(os.environ, "PYSPARK_PYTHON", sys.executable)
    from wardgate.batch.frames import spark_udf

    spark = sql.SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
    try:
        frame = spark.createDataFrame([(text,) for text in [*TEXTS, None]], "text string")
        got = [row.d for row in frame.select(spark_udf()("text").alias("d")).collect()]
    finally:
        spark.stop()
    assert [row.action for row in got[:2]] == ["allow", "block"]
    assert [tuple(row.flagged) for row in got[:2]] == [d.flagged for d in Engine.default().check_many(TEXTS)]
    assert got[2].action is None
