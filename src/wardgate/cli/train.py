"""`wardgate train …`: the recipes, one command each."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from wardgate.cli.train_built_in import blend, head, mini, nano, small, transfer
from wardgate.cli.train_options import SET, Seed, label_map_of, parts_of, tell, tell_game, told

app = typer.Typer(help="Train guards.", no_args_is_help=True)


for built_in in (mini, head, transfer, blend, nano, small):
    app.command()(built_in)


@app.command("classifier")
def classifier(  # noqa: PLR0913, PLR0917 - one option each
    base: Annotated[str, typer.Option(help="Base model: a folder, or a hub id in the local cache.")],
    data: Annotated[Path, typer.Option(help="Folder that `wardgate data build` wrote.")],
    out: Annotated[Path, typer.Option(help="The run's folder; the guard goes to guard/ inside.")],
    recipe: Annotated[str, typer.Option(help="The published recipe to start from.")] = "duoguard",
    labels: Annotated[str, typer.Option(help="The label map that the head answers under.")] = "duoguard",
    head: Annotated[str, typer.Option(help="sigmoid, or softmax for labels that exclude each other.")] = "sigmoid",
    reads: Annotated[str, typer.Option(help="text, joined (prompt and response in a row) or pair.")] = "joined",
    name: Annotated[str, typer.Option(help="The guard's name.")] = "classifier",
    change: Annotated[list[str] | None, typer.Option("--set", help=SET)] = None,
    report_to: Annotated[str, typer.Option(help="none, tensorboard or wandb.")] = "none",
    deepspeed: Annotated[Path | None, typer.Option(help="A DeepSpeed configuration file.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Fine-tune a classifier on masked labels, calibrate it, and write a guard folder.

    Interrupted at any moment, it goes on from its last whole checkpoint. On several GPUs:
    `accelerate launch -m wardgate train classifier …`.

    Example:
      wardgate train classifier --base Qwen/Qwen2.5-0.5B --data data/built --out runs/duo --set lora=16
    """
    with told():
        from wardgate.guards import Link
        from wardgate.train.classifier import Head, train_classifier
        from wardgate.train.fitting import Running
        from wardgate.train.recipe import changes
        from wardgate.train.recipe import recipe as published

        made = published(recipe, **changes(change or []))
        heads = Head(label_map_of(labels), Link(head), reads)
        running = Running(out, report_to, deepspeed, quiet)
        tell(train_classifier(base, parts_of(data), heads, made, running, name=name), out)


@app.command("judge")
def judge(  # noqa: PLR0913, PLR0917 - one option each
    base: Annotated[str, typer.Option(help="Chat model: a folder, or a hub id in the local cache.")],
    data: Annotated[Path, typer.Option(help="Judge rows (docs/training.md), or a folder of `wardgate data build`.")],
    out: Annotated[Path, typer.Option(help="The run's folder; the guard goes to guard/ inside.")],
    recipe: Annotated[str, typer.Option(help="The published recipe to start from.")] = "moddog",
    rubric: Annotated[Path | None, typer.Option(help="A rubric file; by default wardgate's own.")] = None,
    four_bit: Annotated[bool, typer.Option("--four-bit", help="QLoRA; needs CUDA and bitsandbytes.")] = False,
    name: Annotated[str, typer.Option(help="The guard's name.")] = "judge",
    change: Annotated[list[str] | None, typer.Option("--set", help=SET)] = None,
    report_to: Annotated[str, typer.Option(help="none, tensorboard or wandb.")] = "none",
    deepspeed: Annotated[Path | None, typer.Option(help="A DeepSpeed configuration file.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Fine-tune a chat model to the judge's JSON with LoRA or QLoRA, merge it, and calibrate its flag.

    Example:
      wardgate train judge --base Qwen/Qwen2.5-3B-Instruct --data civil_comments.csv --out runs/judge
    """
    with told():
        from wardgate.train.fitting import Running
        from wardgate.train.judge import JudgeOptions, train_judge
        from wardgate.train.judge_rows import from_examples, parted, read_judge_rows
        from wardgate.train.recipe import changes
        from wardgate.train.recipe import recipe as published

        made = published(recipe, **changes(change or []))
        if data.is_dir():
            read = {part: from_examples(examples) for part, examples in parts_of(data).items()}
            for reason, n in sum((left for _, left in read.values()), Counter[str]()).items():
                typer.echo(f"wardgate: left out {n} rows: {reason}", err=True)
            parts = {part: rows for part, (rows, _) in read.items()}
        else:
            parts = parted(read_judge_rows(data), made.seed)
        options = JudgeOptions(name, rubric, four_bit)
        tell(train_judge(base, parts, made, Running(out, report_to, deepspeed, quiet), options), out)


@app.command("distil")
def distil(  # noqa: PLR0913, PLR0917 - one option each
    teacher: Annotated[str, typer.Option(help="Any guard: a name, a checkpoint folder, a YAML card (remote too).")],
    base: Annotated[str, typer.Option(help="The student's base: a folder, or a hub id in the local cache.")],
    data: Annotated[Path, typer.Option(help="Folder that `wardgate data build` wrote.")],
    out: Annotated[Path, typer.Option(help="The run's folder; the student goes to guard/ inside.")],
    recipe: Annotated[str, typer.Option(help="bioguard-prompt, bioguard-response or duoguard.")] = "bioguard-prompt",
    labels: Annotated[str, typer.Option(help="The label map that the student answers under.")] = "bioguard",
    head: Annotated[str, typer.Option(help="sigmoid or softmax.")] = "softmax",
    reads: Annotated[str, typer.Option(help="text, joined or pair (BioGuard's response head).")] = "text",
    share: Annotated[float, typer.Option("--lambda", help="Share of the hard labels, 0 to 1.")] = 0.5,
    borderline: Annotated[Path | None, typer.Option(help="Rows of safe texts that look unsafe.")] = None,
    domain: Annotated[list[str] | None, typer.Option(help="Sources or hazards that the student is for.")] = None,
    name: Annotated[str, typer.Option(help="The student's name.")] = "student",
    change: Annotated[list[str] | None, typer.Option("--set", help=SET)] = None,
    report_to: Annotated[str, typer.Option(help="none, tensorboard or wandb.")] = "none",
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Distil a teacher into a small student, with borderline negatives, and audit the student.

    Example:
      wardgate train distil --teacher teacher.yaml --base microsoft/deberta-v3-base --data data/bio --out runs/bio
    """
    with told():
        from wardgate.data.rows import read_rows
        from wardgate.guards import Link
        from wardgate.train.classifier import Head
        from wardgate.train.distil import Distilling, train_student
        from wardgate.train.fitting import Running
        from wardgate.train.recipe import changes
        from wardgate.train.recipe import recipe as published

        made = published(recipe, **changes(change or []))
        more = tuple(read_rows(borderline)) if borderline else ()
        how = Distilling(teacher, share, more, tuple(domain or ()), name)
        heads = Head(label_map_of(labels), Link(head), reads)
        figures = train_student(base, parts_of(data), heads, made, Running(out, report_to, quiet=quiet), how)
        tell(figures, out)
        for warning in figures.get("audit", {}).get("warnings", ()):
            typer.echo(f"audit: {warning}")


@app.command("duo")
def duo(  # noqa: PLR0913, PLR0917 - one option each
    data: Annotated[Path, typer.Option(help="Folder that `wardgate data build` wrote: the seeds.")],
    out: Annotated[Path, typer.Option(help="The game's folder; it holds generated text.")],
    base: Annotated[str | None, typer.Option(help="The classifier's base model; without it, the n-gram guard.")] = None,
    start: Annotated[str | None, typer.Option(help="A run of `train mini` to go on from.")] = None,
    generator: Annotated[str, typer.Option(help="`edits`, or a chat model's folder or hub id.")] = "edits",
    server: Annotated[str | None, typer.Option(help="OpenAI-compatible URL, up to /v1, that samples it.")] = None,
    served: Annotated[str | None, typer.Option(help="The name the server serves it under.")] = None,
    rounds: Annotated[int, typer.Option(help="Rounds of the game.")] = 2,
    k: Annotated[int, typer.Option(help="Rewrites per seed.")] = 8,
    language: Annotated[list[str] | None, typer.Option(help="Languages to rewrite into; the seeds' own.")] = None,
    rewrite: Annotated[int | None, typer.Option(help="Rewrite this many seeds at most.")] = None,
    beta: Annotated[float | None, typer.Option(help="Weight of the KL term or reference.")] = None,
    rpo_alpha: Annotated[float, typer.Option(help="Weight of the chosen rewrite's likelihood beside DPO.")] = 0.4,
    threshold: Annotated[float, typer.Option(help="P(unsafe) from which the classifier flags.")] = 0.5,
    recipe: Annotated[str, typer.Option(help="The classifier's recipe.")] = "duoguard",
    change: Annotated[list[str] | None, typer.Option("--set", help=SET)] = None,
    prefer: Annotated[list[str] | None, typer.Option("--dpo", help="NAME=VALUE of DPO (rate, batch, lora …).")] = None,
    seed: Seed = 0,
    paired: Annotated[bool, typer.Option("--paired", help="Beside each miss, a safe or unsafe counterpart.")] = False,
    mirrored: Annotated[float, typer.Option(help="Share of edits made as for the other label.")] = 0.0,
    longest: Annotated[int | None, typer.Option(help="Rewrite only seeds of at most so many letters.")] = None,
    drawn: Annotated[int | None, typer.Option(min=1, help="Train on so many rewrites a round, missed or not.")] = None,
    hardest: Annotated[int | None, typer.Option(min=1, help="Train on each seed's so many hardest rewrites.")] = None,
    views: Annotated[bool, typer.Option("--views", help="Train on raw and cleaned views of misses.")] = False,
    at_point: Annotated[float | None, typer.Option(help="Not --threshold: flag this share of safe texts.")] = None,
    workers: Annotated[int, typer.Option(help="Sample and score with this many Ray workers; 0 for none.")] = 0,
    gpus: Annotated[float, typer.Option(help="GPUs of each worker.")] = 0.0,
    launcher: Annotated[str, typer.Option(help="Starts training, such as `accelerate launch`.")] = "",
    deepspeed: Annotated[Path | None, typer.Option(help="A DeepSpeed configuration file.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bars.")] = False,
) -> None:
    """Play the two-player game: rewrites that keep their label against a classifier that learns from its misses.

    Goes on from wherever it was stopped. Seeds of child sexual exploitation and indiscriminate weapons are never
    rewritten, nor unsafe texts whose hazards are not known. The key of a server is read from OPENAI_API_KEY.

    Examples:
      wardgate train duo --data data/built --out runs/game

      wardgate train duo --data data/built --out runs/duo --base Qwen/Qwen2.5-0.5B --generator runs/generator

      wardgate train duo --data data/built --out runs/again --base multilingual-e5-small --start runs/mini --hardest 2
      --views --longest 200 --at-point 0.025 --beta 1
    """
    with told():
        from wardgate.train.duo.setup import GameOptions, play

        options = GameOptions(
            out=out,
            base=base,
            start=start,
            generator=generator,
            server=server,
            served=served,
            rounds=rounds,
            k=k,
            languages=tuple(language or ()),
            rewrite=rewrite,
            beta=beta,
            rpo_alpha=rpo_alpha,
            threshold=threshold,
            recipe=recipe,
            changes=tuple(change or ()),
            preferences=tuple(prefer or ()),
            chance=seed,
            paired=paired,
            mirrored=mirrored,
            longest=longest,
            drawn=drawn,
            hardest=hardest,
            views=views,
            at_point=at_point,
            quiet=quiet,
            workers=workers,
            gpus=gpus,
            launcher=tuple(shlex.split(launcher)),
            deepspeed=deepspeed,
        )
        card = play(parts_of(data), options, lambda line: None if quiet else typer.echo(line, err=True))
    tell_game(card, out)


@app.command("prefer")
def prefer(
    base: Annotated[str, typer.Option(help="Chat model: a folder, or a hub id in the local cache.")],
    pairs: Annotated[Path, typer.Option(help="Preference rows as JSON lines: prompt, chosen, rejected.")],
    out: Annotated[Path, typer.Option(help="The run's folder; the weights go to generator/ inside.")],
    prefer: Annotated[list[str] | None, typer.Option("--dpo", help="NAME=VALUE of DPO (beta, rate, lora …).")] = None,
    report_to: Annotated[str, typer.Option(help="none, tensorboard or wandb.")] = "none",
    deepspeed: Annotated[Path | None, typer.Option(help="A DeepSpeed configuration file.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Train a generator on preference pairs by DPO: the game's own step, for several GPUs.

    Example:
      accelerate launch -m wardgate train prefer --base runs/generator --pairs pairs.jsonl --out runs/dpo
    """
    with told():
        from wardgate.train.duo.chat import Preferences, improve_by_dpo
        from wardgate.train.duo.launched import read_preferences
        from wardgate.train.duo.setup import dpo_numbers
        from wardgate.train.fitting import Running

        numbers = Preferences(**dpo_numbers(tuple(prefer or ())))
        running = Running(out, report_to, deepspeed, quiet)
        improve_by_dpo(base, read_preferences(pairs), numbers, running, out / "generator")
    typer.echo(f"weights written to {out / 'generator'}")
