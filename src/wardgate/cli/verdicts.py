"""`wardgate data export-verdicts`: what people said, as labelled rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from wardgate.cli.check import fail
from wardgate.cli.store import KEY, URL, opened


def export_verdicts(
    out: Annotated[Path, typer.Argument(help="Where the JSON lines go.")],
    store: URL,
    even: Annotated[
        bool, typer.Option("--even", help="Thin the rows so that each had the same chance: what certify needs.")
    ] = False,
    store_key: KEY = None,
) -> None:
    """Write the verdicts whose texts are still kept as labelled rows.

    A row has text, response, unsafe (0 or 1), categories, lang, kind, source, and weight: how many decisions it
    stands for. `wardgate certify` and `wardgate calibrate` read it.

    Example:
      wardgate data export-verdicts verdicts.jsonl --store sqlite:///wardgate.db --even
    """
    from wardgate.store import CipherError
    from wardgate.store.labelled import even as thinned
    from wardgate.store.labelled import examples, labels

    kept = opened(store, store_key)
    with kept.reading() as connection:
        found = labels(connection)
    chosen, count = thinned(found) if even else found, 0
    try:
        with out.open("w", encoding="utf-8") as lines:
            for label, example in examples(kept, chosen):
                row = {
                    "id": example.id,
                    "text": example.text,
                    **({} if example.response is None else {"response": example.response}),
                    "unsafe": int(label.unsafe),
                    "categories": [h.value for h in sorted(example.present)] or (["unknown"] if label.unsafe else []),
                    "lang": example.language,
                    "kind": example.kind,
                    "source": example.source,
                    "weight": 1.0 if even else label.weight,
                }
                lines.write(json.dumps(row, ensure_ascii=False) + "\n")
                count += 1
    except CipherError as error:
        raise fail(str(error)) from None
    except OSError as error:
        raise fail(f"{out}: {error.strerror or 'cannot be written'}") from None
    typer.echo(f"{count} rows written to {out}; {len(chosen) - count} more have no text any longer")
