"""The results of a machine as a Markdown document, from the records on the disk. It measures nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from quantlab.bench.speed.clock import Timing
from quantlab.bench.speed.contenders import BEST, HALF, STOCK, offered
from quantlab.bench.speed.goals import verdicts
from quantlab.bench.speed.plan import CPU, LEVELS, PROFILE
from quantlab.bench.speed.records import Line, Record

DASH = "–"
BASES = {STOCK: "× float32", HALF: "× bfloat16", BEST: "× best"}
HOW = """Variants were run by turns in one process; milliseconds are medians, of processor time on one thread and on the
wall on several; a ratio is the median over rounds of the ratio within a round, so that what else the machine did
cancels. Random weights: they decide no speed. *(bfloat16)*: computed in bfloat16 between the layers as well. *±*:
half of what lies between the quartiles of the rounds, where that is 10 % and more."""
HOW_GPU = """Variants were run by turns in one process; milliseconds are medians on the wall, the GPU waited for before
and after; a ratio is the median over rounds of the ratio within a round. Random weights: they decide no speed.
*(bfloat16)*: computed in bfloat16 between the layers as well. *Working*: the most that a forward held on the GPU
beside what lay there before, as 10^6 bytes. *±*: half of what lies between the quartiles of the rounds, where that
is 10 % and more."""
NOTABLE = 0.1
"""The least spread that is shown."""
MEMORY = """Bytes as 10^6; loading from the page cache; each row in processes of its own. *Anonymous* is what loading
adds over a process that has only imported; *peak* is the most the process ever held (VmHWM), mapped files and
libraries included."""
MEMORY_GPU = """Bytes as 10^6; each row in processes of its own. *In memory* is what lies on the GPU when a forward is
over, *peak* the most that lay there; *anonymous* and *import alone* are of the process beside it."""
PARTS = """CPU seconds of one forward, by what ran. Attention has its rotary position but not its linears and norms;
rounding that a product does itself counts as linears; heads are whole. What heads and attention take, no rounding
of linears makes faster."""


def document(records: Sequence[Record]) -> str:
    """The whole document of one machine."""
    how = HOW_GPU if any(record.group.device != CPU for record in records) else HOW
    parts = ["# Speed and memory", *_machine(records), how, *_goals(records)]
    show = {"forward": _speeds, PROFILE: _profiles} | dict.fromkeys(LEVELS, _speeds) | {"memory": _memory}
    for level, shown in show.items():
        parts += shown([record for record in records if record.group.level == level])
    named = {c.name: c.help for record in records for c in offered(record.group.device) if c.help}
    notes = [f"* {name}: {text}." for name, text in named.items() if _took_part(name, records)]
    return "\n\n".join([*parts, "## Who is who", "\n".join(notes)]) + "\n"


def _machine(records: Sequence[Record]) -> list[str]:
    """On what, when and by which commands."""
    made = [record.made for record in records]
    dates = sorted(str(entry["date"])[:10] for entry in made)
    span = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    machines = _common(
        f"{entry['processor']} ({', '.join(entry['instructions']) or 'no wide instructions'}),"
        f" {entry['cores']} cores{_host(entry)}, Python {entry['python']}"
        for entry in made
    )
    versions = _common(", ".join(f"{name} {v}" for name, v in entry["versions"].items()) for entry in made)
    loads = sorted(float(entry["load"]) for entry in made if entry["load"] is not None)
    load = f" Load of the machine at the ends of groups: {loads[0]:g} to {loads[-1]:g}." if loads else ""
    commands = "\n".join(f"    {command}" for command in _common(str(entry["command"]) for entry in made))
    return [f"Measured on {span}: {'; '.join(machines)}. {'; '.join(versions)}.{load}", commands]


def _host(entry: Mapping[str, Any]) -> str:
    """Whose cores those are, where a GPU stands in the processor's place."""
    return f" of {entry['host']}" if "host" in entry else ""


def _goals(records: Sequence[Record]) -> list[str]:
    found = verdicts(records)
    if not found:
        return []
    lines = [["goal", "threads", "measured", ""]]
    lines += [[v.goal, str(v.threads or DASH), escaped(v.measured), escaped(v.outcome)] for v in found]
    return ["## Goals", table(lines, numeric=False)]


def _speeds(records: Sequence[Record]) -> list[str]:
    """A table for each thing that was computed, its numbers of threads side by side."""
    parts: list[str] = []
    keys = dict.fromkeys((r.group.shapes, r.group.depth, r.group.part, r.group.size) for r in records)
    for key in sorted(keys, key=str):
        found = [r for r in records if (r.group.shapes, r.group.depth, r.group.part, r.group.size) == key]
        found.sort(key=lambda record: record.group.threads)
        parts += [f"## {_title(found[0])}", *_once(found), _speed_table(found), *_reasons(found)]
    return parts


def _once(records: Sequence[Record]) -> list[str]:
    """Which columns are a single round."""
    once = [
        _unit(record)
        for record in records
        if max((len(line.timing.wall) for line in record.lines), default=0) == 1
    ]
    return [f"One round ({'; '.join(once)}): how far others would lie from it is not known."] if once else []


def _title(record: Record) -> str:
    group = record.group
    text, _, _ = str(group).rpartition(",")
    cut = f" cut to {group.depth} blocks of each kind" if group.depth else ""
    return f"{text[0].upper()}{text[1:]} ({group.shapes}{cut})"


def _speed_table(records: Sequence[Record]) -> str:
    names = dict.fromkeys(line.name for record in records for line in record.lines)
    head = ["variant"]
    for record in records:
        head += [_unit(record), *_bases(record).values(), *_more(record)]
    lines = [[*head, "executed by"]]
    for name in names:
        cells = [cell for record in records for cell in _cells(record, name)]
        if set(cells) != {DASH}:
            line = next(found for record in records if (found := record.line(name)) is not None)
            lines.append([name, *cells, _executed(line)])
    return table(lines)


def _unit(record: Record) -> str:
    group = record.group
    if group.device != CPU:
        return "ms"
    return f"{group.threads} thr., {'ms' if group.wall else 'CPU ms'}"


def _more(record: Record) -> list[str]:
    """Heads of further columns, of the memory of a GPU."""
    return [] if record.group.device == CPU else ["working, MB"]


def _bases(record: Record) -> dict[str, str]:
    return {name: text for name, text in BASES.items() if record.line(name) is not None}


def _cells(record: Record, name: str) -> list[str]:
    line = record.line(name)
    timing, facts = (None, {}) if line is None else (line.timing, line.facts)
    ratios = [record.speedup(name, base) for base in _bases(record)]
    worked = facts.get("working_bytes")
    return [
        _time(timing, wall=record.group.wall),
        *(DASH if ratio is None else f"{ratio:.2f}" for ratio in ratios),
        *(DASH if worked is None else _megabytes(worked) for _ in _more(record)),
    ]


def _time(timing: Timing | None, *, wall: bool) -> str:
    """Milliseconds, and how far the rounds lie apart where that is notable."""
    if timing is None:
        return DASH
    spread = timing.spread(wall=wall)
    return milliseconds(timing.seconds(wall=wall)) + (f" ±{100 * spread:.0f} %" if spread >= NOTABLE else "")


def _executed(line: Line) -> str:
    kernels = line.facts.get("kernels", {})
    parts = [kernel if len(kernels) == 1 else f"{kernel} × {count}" for kernel, count in kernels.items()]
    attention = line.facts.get("attention")
    parts += [f"{attention} attention"] if attention and attention != "torch" else []
    parts += [f"{name} × {count}" for name, count in line.facts.get("attentions", {}).items()]
    parts += [str(line.facts["arithmetic"])] if "arithmetic" in line.facts else []
    return escaped(", ".join(parts)) or DASH


def _reasons(records: Sequence[Record]) -> list[str]:
    """Who could not be measured, and why; equal reasons once."""
    found: dict[str, list[str]] = {}
    for record in records:
        for line in record.lines:
            if line.timing.reason and line.name not in found.setdefault(line.timing.reason, []):
                found[line.timing.reason].append(line.name)
    texts = [f"* Not measured: {'; '.join(names)}: {escaped(reason)}" for reason, names in found.items()]
    return ["\n".join(texts)] if texts else []


def _memory(records: Sequence[Record]) -> list[str]:
    parts: list[str] = []
    head = ["", "on disk", "in memory", "load, s", "anonymous", "peak", "import alone", "forward, s"]
    for record in records:
        lines = [head]
        for line in record.lines:
            if line.facts:
                facts = line.facts
                sizes = [_megabytes(facts[name]) for name in ("disk_bytes", "weights_bytes")]
                more = [_megabytes(facts[f"{name}_bytes"]) for name in ("anonymous", "peak", "imported")]
                load, forward = f"{facts['load_seconds']:.2f}", f"{facts['forward_seconds']:.1f}"
                lines.append([line.name, *sizes, load, *more, forward])
        where, how = f"{record.group.threads} threads", MEMORY
        if record.group.device != CPU:
            where, how = record.group.device, MEMORY_GPU
        title = f"## Memory, 2 frames, {where}, with tracker ({record.group.shapes})"
        parts += [title, how, table(lines), *_reasons([record])]
    return parts


def _profiles(records: Sequence[Record]) -> list[str]:
    """Where the time of whole forwards goes: seconds, and percent of all."""
    parts: list[str] = []
    for record in records:
        shares = {line.name: line.facts["shares"] for line in record.lines if "shares" in line.facts}
        head = list(next(iter(shares.values()), {}))
        lines = [["variant", "all, s", *head]]
        for name, found in shares.items():
            total = sum(found.values()) or 1.0
            cells = [f"{found[part]:.2f} ({100 * found[part] / total:.0f} %)" for part in head]
            lines.append([name, f"{total:.2f}", *cells])
        title = f"## Where the time goes: {record.group.size} frames, 1 thread ({record.group.shapes})"
        parts += [title, PARTS, table(lines), *_reasons([record])]
    return parts


def milliseconds(seconds: float | None) -> str:
    """Three significant digits; a dash for nothing."""
    if seconds is None:
        return DASH
    value = 1000 * seconds
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def table(lines: Sequence[Sequence[str]], *, numeric: bool = True) -> str:
    """Rows of cells, the first being the heads."""
    head, *body = lines
    rule = ["---", *(["---:" if numeric else "---"] * (len(head) - 1))]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *body))


def escaped(text: str) -> str:
    """Reasons come from the libraries of strangers; they may not break the table."""
    safe = "".join(char if char.isprintable() else "?" for char in text)
    return safe.replace("|", "\\|").replace("<", "&lt;")


def _megabytes(count: float) -> str:
    return f"{count / 1e6:.0f}"


def _took_part(name: str, records: Sequence[Record]) -> bool:
    return any(record.line(name) is not None for record in records)


def _common(texts: Iterable[str]) -> list[str]:
    return [text for text, _ in Counter(texts).most_common(3) if text]
