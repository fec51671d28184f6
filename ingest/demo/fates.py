"""What became of every file, by disk and database, and whether that was the plan."""

from __future__ import annotations

from dataclasses import dataclass, field

from buffer.models import File, Refusal, RefusalReason
from ingest.demo.landing import SlowWriter, original
from ingest.demo.place import INGESTER_NAME, Place
from ingest.demo.samples import Arrival, Sample
from ingest.models import FileEvent
from ingest.statuses import Status

_REFUSED = {Arrival.AGAIN: RefusalReason.DUPLICATE, Arrival.OTHER: RefusalReason.CONFLICT}
_BEGINNINGS = (Status.UNTRIED, Status.PENDING)


@dataclass
class Fate:
    """What happened to one file."""

    sample: Sample
    #: What the finder did with it.
    taken_in: str
    #: What the ingester made of it; empty if it never came to that.
    status: str = ""
    remark: str = ""
    #: In what it is not as it was planned; empty if all is well.
    surprises: list[str] = field(default_factory=list)


def fates(place: Place, samples: list[Sample], writer: SlowWriter) -> list[Fate]:
    """Look up every file, and compare with what was planned for it."""
    stored = {file.path: file for file in File.objects.all()}
    found = [_fate(place, sample, stored) for sample in samples]
    for fate in found:
        if fate.sample.arrival is Arrival.SLOWLY:
            _check_patience(fate, stored.get(fate.sample.path), writer)
    return found


def strangers(samples: list[Sample]) -> list[str]:
    """List files that the database has and the plan has not."""
    planned = {sample.path for sample in samples if sample.is_taken_in}
    return sorted(file.path for file in File.objects.all() if file.path not in planned)


def _fate(place: Place, sample: Sample, stored: dict[str, File]) -> Fate:
    if not sample.is_taken_in:
        return _refused(place, sample, stored)
    file = stored.get(sample.path)
    if file is None or file.stored_on is None:
        return Fate(sample, "not stored", surprises=["it was to be in storage"])
    fate = Fate(sample, "recorded" if sample.arrival is Arrival.BEFORE else "stored")
    path = place.storage / sample.path
    if not path.is_file() or path.read_bytes() != original(place, sample).read_bytes():
        fate.surprises.append("its bytes in storage are not those that were sent")
    _add_history(fate, file)
    return fate


def _add_history(fate: Fate, file: File) -> None:
    sample = fate.sample
    events = list(FileEvent.objects.filter(file=file, ingester__name=INGESTER_NAME).order_by("id"))
    outcomes = tuple(Status(event.status) for event in events if event.status not in _BEGINNINGS)
    if not events:
        fate.surprises.append("it has no history")
        return
    last = events[-1]
    fate.status = last.status
    fate.remark = last.err_message
    if last.status == Status.SUCCESS and Status.RERUN in outcomes:
        first = next(event for event in events if event.status == Status.FAILURE)
        # The message goes on with what to do; its first part says what was wrong.
        fate.remark = f"in the second attempt; first: {first.err_message.partition(' (')[0]}"
    if outcomes != sample.outcomes:
        fate.surprises.append(f"its history is {_path(outcomes)}, not {_path(sample.outcomes)}")
    if sample.message not in last.err_message:
        fate.surprises.append(f"its message does not say {sample.message!r}")


def _refused(place: Place, sample: Sample, stored: dict[str, File]) -> Fate:
    reason = _REFUSED[sample.arrival]
    arrival = place.buffer / sample.path
    refusal = Refusal.objects.filter(reason=reason, path=sample.path).first()
    if refusal is None:
        return Fate(sample, "no refusal", surprises=[f"a refusal {reason} was to be recorded"])
    if reason == RefusalReason.DUPLICATE:
        fate = Fate(sample, "deleted", remark=f"duplicate: the same as {sample.stored_as}")
        if arrival.exists():
            fate.surprises.append("it is still in the buffer")
    else:
        fate = Fate(sample, "left", remark="conflict: the stored file of that name stays as it is")
        sent = original(place, sample).read_bytes()
        if not arrival.is_file() or arrival.read_bytes() != sent:
            fate.surprises.append("it is not in the buffer any more")
    file = stored.get(sample.stored_as)
    if file is None or refusal.file_id != file.pk:
        fate.surprises.append(f"the refusal does not name the stored file {sample.stored_as}")
    return fate


def _check_patience(fate: Fate, file: File | None, writer: SlowWriter) -> None:
    if file is None or file.stored_on is None or writer.finished_on is None:
        return
    if file.stored_on <= writer.finished_on:
        fate.surprises.append("it was taken in before it was complete")
    else:
        fate.remark = fate.remark or f"written for {writer.seconds:.0f} s, then taken in"


def _path(statuses: tuple[Status, ...]) -> str:
    return " -> ".join(statuses) or "empty"
