"""`wardgate train mini`, `head`, `transfer`, `blend`, `nano` and `small`: the recipes of the guards that ship."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wardgate.cli.check import fail
from wardgate.cli.train_options import EncoderBase, Pool, Seed, Version, bar, tell_bundle, told


def mini(  # noqa: PLR0913, PLR0917 - one option each
    pool: Pool,
    base: EncoderBase,
    out: Annotated[Path, typer.Option(help="Where the bundle and the run's state go.")],
    version: Version = "1.0.0",
    start: Annotated[
        list[Path] | None, typer.Option(help="A finished run to go on from; of several, the mean.")
    ] = None,
    also: Annotated[Path | None, typer.Option(help="More rows to train on, such as a game's misses-2.jsonl.")] = None,
    epochs: Annotated[float, typer.Option(help="Passes over the training rows.")] = 0.75,
    rate: Annotated[
        float, typer.Option(help="Peak learning rate of the encoder; the head's is ten times that.")
    ] = 1e-4,
    requests: Annotated[int, typer.Option(help="How often a written-out text is seen in an epoch.", min=0)] = 4,
    seed: Seed = 20261121,
) -> None:
    """Train the built-in guard: data plan, fine-tuning, int8 export, calibration, bundle.

    Interrupted, it goes on from its last checkpoint. About an hour on two cores.

    Example:
      wardgate train mini --pool pool/train --base multilingual-e5-small --out runs/mini
    """
    from wardgate.data.rows import read_rows
    from wardgate.train.mini import Settings, train_mini
    from wardgate.train.pack import pack

    try:
        with bar("fine-tuning") as report:
            more = () if also is None else tuple(read_rows(also))
            settings = Settings(seed=seed, epochs=epochs, rate=rate, head_rate=10 * rate, requests=requests)
            model, _, splits = train_mini(pool, base, out, settings, report, starts=start or (), also=more)
        manifest = pack(model, splits, out, name="mini", version=version)
    except (OSError, ValueError, RuntimeError) as error:
        raise fail(str(error)) from None
    tell_bundle(manifest, out)


def head(
    pool: Pool,
    base: EncoderBase,
    run: Annotated[Path, typer.Option(help="A finished run of `train mini`.")],
    out: Annotated[Path, typer.Option(help="Where the bundle goes.")],
    version: Version = "1.0.0",
    seed: Seed = 20261121,
) -> None:
    """Give a finished run of `train mini` a head that reads its last five layers. The encoder stays as it is.

    Interrupted, it goes on from what was read; no text is read twice. Half an hour on two cores, most of it reading.

    Example:
      wardgate train head --pool pool/train --base multilingual-e5-small --run runs/mini --out runs/head
    """
    with told():
        from wardgate.train.head import HeadSettings, train_head
        from wardgate.train.mini import Settings

        plan, settings = Settings(seed=seed, requests=1), HeadSettings(seed=seed)
        with bar("reading, then learning") as report:
            manifest = train_head(pool, base, run, out, plan, settings, version=version, report=report)
    tell_bundle(manifest, out)


def transfer(  # noqa: PLR0913, PLR0917 - one option each
    pool: Pool,
    base: EncoderBase,
    run: Annotated[Path, typer.Option(help="A finished run of `train head`.")],
    out: Annotated[Path, typer.Option(help="Where the bundle and the run's state go.")],
    version: Version = "1.0.0",
    originals: Annotated[int, typer.Option(help="English texts that are translated.", min=1)] = 9_000,
    kept: Annotated[int, typer.Option(help="Other training texts, which hold the run where it is.", min=0)] = 16_000,
    epochs: Annotated[int, typer.Option(help="Passes over all of these.", min=1)] = 1,
    rate: Annotated[float, typer.Option(help="Peak learning rate of the encoder.")] = 4e-5,
    seed: Seed = 20261121,
) -> None:
    """Carry what a finished run of `train head` knows in English into other languages, by translations.

    Interrupted, it goes on from its last checkpoint. An hour on two cores. Needs Apertium.

    Example:
      wardgate train transfer --pool pool/train --base multilingual-e5-small --run runs/head --out runs/transfer
    """
    with told():
        from wardgate.train.mini import Settings
        from wardgate.train.transfer import TransferSettings, train_transfer

        plan = Settings(seed=seed, requests=1)
        settings = TransferSettings(seed=seed, originals=originals, kept=kept, epochs=epochs, rate=rate)
        with bar("reading, then learning") as report:
            manifest = train_transfer(pool, base, run, out, plan, settings, version=version, report=report)
    tell_bundle(manifest, out)


def blend(
    deep: Annotated[Path, typer.Option(help="Bundle of an encoder: the folder of `train mini` or `train head`.")],
    wide: Annotated[Path, typer.Option(help="Bundle of n-grams: the folder of `train nano`.")],
    pool: Pool,
    out: Annotated[Path, typer.Option(help="Where the bundle goes.")],
    share: Annotated[float, typer.Option(help="What the n-grams' logits are multiplied with.", min=0)] = 0.25,
    name: Annotated[str, typer.Option(help="The guard's name.")] = "mini",
    version: Version = "1.0.0",
    seed: Annotated[int, typer.Option(help="Seed of the pool's splits, as in `train mini`.")] = 20261121,
) -> None:
    """Join an encoder and n-grams into one guard: their logits are added. Trains nothing; calibrates the sum.

    Example:
      wardgate train blend --deep runs/mini --wide runs/nano --pool pool/train --out runs/blend
    """
    with told():
        from wardgate.train.mini import Settings, build_splits
        from wardgate.train.pack import finish, joined

        guard, card = joined(name, deep, wide, out, share=share)
        manifest = finish(guard, build_splits(pool, Settings(seed=seed)), out, version=version, card=card)
    tell_bundle(manifest, out)


def nano(
    pool: Pool,
    out: Annotated[Path, typer.Option(help="Where the bundle goes.")],
    version: Version = "1.0.0",
    teacher: Annotated[str | None, typer.Option(help="A guard to learn from beside the labels, such as mini.")] = None,
    requests: Annotated[int, typer.Option(help="How often a written-out text is seen in an epoch.", min=0)] = 4,
    seed: Seed = 20261121,
) -> None:
    """Train the smallest built-in guard: hashed n-grams, a table, a tiny head. A quarter of an hour on two cores.

    Example:
      wardgate train nano --pool pool/train --out runs/nano
    """
    from wardgate.engine import BundleError, GuardUnavailableError
    from wardgate.engine.catalogue import load_guard
    from wardgate.train.mini import Settings, build_splits
    from wardgate.train.nano import NanoSettings, train_nano

    try:
        taught = None if teacher is None else load_guard(teacher).guard
        splits = build_splits(pool, Settings(seed=seed, requests=requests))
        with bar("training") as report:
            manifest = train_nano(splits, out, NanoSettings(seed=seed), teacher=taught, version=version, report=report)
    except (OSError, RuntimeError, GuardUnavailableError, BundleError) as error:
        raise fail(str(error)) from None
    tell_bundle(manifest, out)


def small(
    pool: Pool,
    base: EncoderBase,
    run: Annotated[Path, typer.Option(help="A finished run of `train head`: the teacher.")],
    out: Annotated[Path, typer.Option(help="Where the bundle and the run's state go.")],
    version: Version = "1.0.0",
    epochs: Annotated[int, typer.Option(help="Passes over the lessons.", min=1)] = 5,
    seed: Seed = 20261121,
) -> None:
    """Train the encoder of the guard small: narrow layers, taught by a finished run of `train head`.

    Interrupted, it goes on from what was read, or its last whole epoch. Two hours on two cores, half of it reading.

    Example:
      wardgate train small --pool pool/train --base multilingual-e5-small --run runs/head --out runs/deep
      wardgate train blend --deep runs/deep --wide runs/nano --share 0.5 --name small --pool pool/train --out runs/small
    """
    with told():
        from wardgate.train.mini import Settings
        from wardgate.train.small import SmallSettings, train_small

        plan, settings = Settings(seed=seed, requests=1), SmallSettings(seed=seed, epochs=epochs)
        with bar("reading, then learning") as report:
            manifest = train_small(pool, base, run, out, plan, settings, version=version, report=report)
    tell_bundle(manifest, out)
