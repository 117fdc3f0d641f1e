"""What nvidia-smi tells of the first GPU while a program runs: clocks, power, memory."""

import contextlib
import shutil
import statistics
import subprocess
import tempfile

CARD_SAMPLE_MS = 20
CLOCKS = "--query-gpu=clocks.sm,power.draw.instant,clocks_event_reasons.sw_power_cap"
CARD_MEMORY, OWN_MEMORY = "--query-gpu=memory.used", "--query-compute-apps=process_name,used_memory"


@contextlib.contextmanager
def card_samples(query: str):
    """Gives a list that holds, at the end, what nvidia-smi told of the first GPU every so often, in words; empty without nvidia-smi."""
    seen: list[list[str]] = []
    if shutil.which("nvidia-smi") is None:
        yield seen
        return
    command = ["nvidia-smi", "--id=0", query, "--format=csv,noheader,nounits", f"--loop-ms={CARD_SAMPLE_MS}"]
    with tempfile.TemporaryFile("w+") as told:
        watcher = subprocess.Popen(command, stdout=told, stderr=subprocess.DEVNULL)
        try:
            yield seen
        finally:
            watcher.terminate()
            watcher.wait()
            told.seek(0)
            fields = query.count(",") + 1
            lines = [[word.strip() for word in line.split(",")] for line in told]
            seen += [words for words in lines if len(words) == fields]  # the last may be cut off


def number_in(word: str) -> float | None:
    """None for what a card or a driver does not tell."""
    try:
        return float(word)
    except ValueError:
        return None


def most_gigabytes(words, where: str) -> str:
    """Of MiB."""
    known = [number for word in words if (number := number_in(word)) is not None]
    return f"{max(known) * 2**20 / 1e9:.3g} GB {where}, " if known else ""


def at_work(samples: list) -> list:
    """Clock in MHz, watts, whether power held the clock back: of samples with half the greatest power or more, since a program also loads and waits."""
    known = [(number_in(clock), number_in(watts), cap == "Active") for clock, watts, cap in samples]
    known = [sample for sample in known if None not in sample]
    most = max((watts for _, watts, _ in known), default=0)
    return [sample for sample in known if sample[1] >= most / 2]


def clocks_text(ways: list) -> str:
    """Of what at_work() gave for each."""
    if not all(ways):
        return ""
    columns = [list(zip(*samples)) for samples in ways]
    clocks, watts = (" / ".join(f"{statistics.median(column[i]):.0f}" for column in columns) for i in (0, 1))
    capped = " / ".join(f"{100 * statistics.mean(column[2]):.0f}" for column in columns)
    return f", at {clocks} MHz, {watts} W, capped in {capped} % of {' / '.join(str(len(samples)) for samples in ways)} samples"
