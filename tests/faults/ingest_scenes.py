"""Files that wait at an ingester, and what must hold when a pass over them was cut short."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from buffer import steps
from buffer.models import File
from ingest import claims, transitions
from ingest.models import FileEvent, Ingester, Ingestion
from ingest.rerun import rerun
from ingest.statuses import Status
from tests.faults import ingest_pass
from tests.faults.dying import in_child
from tests.faults.ingest_pass import AGAIN, OPERATOR, Setting

MakeFile = Callable[..., File]
#: By how much the database's clock is ahead at each start: all that was claimed before has lapsed.
LAPSE_S = claims.LEASE_S + 1.0

#: What may follow what in a file's history. A file that was given back has the status before.
FOLLOWS = {
    "": {"UNTRIED"},
    "UNTRIED": {"PENDING", "IGNORED", "INVALID", "RERUN"},
    "PENDING": {"SUCCESS", "FAILURE", "UNKNOWN", "UNTRIED", "RERUN"},
    "SUCCESS": {"RERUN"},
    "FAILURE": {"RERUN"},
    "UNKNOWN": {"RERUN", "SUCCESS", "UNKNOWN", "PENDING"},
    "RERUN": {"PENDING", "IGNORED", "INVALID"},
    "IGNORED": {"RERUN"},
    "INVALID": {"RERUN"},
}


class Scene:
    """Files that wait at one ingester, and the passes over them.

    Parameters
    ----------
    ingester
        The ingester.
    make_file
        Makes stored files.
    place
        A directory for what is counted.
    """

    #: The plugin, its other keys, and the files with what is in them.
    plugin = "tests.system.observatory_plugins.CountingAndTelling"
    keys: dict[str, Any] = {"batch_size": 3, "retry": {}}  # noqa: RUF012
    files: dict[str, bytes] = dict.fromkeys(("a", "b", "c", AGAIN), b"good")
    #: Each outcome is written by itself.
    flush_s = 0.0

    def __init__(self, ingester: Ingester, make_file: MakeFile, place: Path) -> None:
        self.ingester, self.make_file, self.place = ingester, make_file, place
        self.list = place / "list"
        self.setting = Setting(
            ingester.pk, self.plugin, {"list": str(self.list)}, self.keys, self.flush_s
        )
        self.named: dict[str, File] = {}

    def begin(self) -> None:
        """Make everything as it was before the first pass."""
        for model in (Ingestion, FileEvent, File):
            model.objects.all().delete()
        Ingester.objects.update(watermark=0)
        self.list.unlink(missing_ok=True)
        self.named = {
            name: self.make_file(filename=name, content=content)
            for name, content in self.files.items()
        }
        # One was refused before. It is known, so the pass opens the others only.
        again = self.named[AGAIN].pk
        transitions.create(self.ingester.pk, [again], Status.UNTRIED)
        row = Ingestion.objects.get(file_id=again)
        claim = claims.claim(self.ingester.pk, [claims.Lane(Status.UNTRIED)], 1, "past")
        assert claim is not None
        for was, status in ((Status.UNTRIED, Status.PENDING), (Status.PENDING, Status.FAILURE)):
            keep = status == Status.PENDING
            step = transitions.Step(row.pk, again, was, claim.token, status, 1, keep=keep)
            assert transitions.apply(self.ingester.pk, [step])

    def run(self, number: int, prepare: Callable[[], object] = lambda: None) -> int:
        """Run the pass of a number, in a process that `prepare` has prepared; its wait status."""

        def work() -> None:
            prepare()
            self.work(number)

        return in_child(work)

    def work(self, number: int) -> None:
        """Do what the pass of a number does, in this process."""
        ingest_pass.run(replace(self.setting, ahead_s=number * LAPSE_S))

    def add(self, *names: str) -> None:
        """Store more files."""
        self.files = {**self.files, **dict.fromkeys(names, b"good")}
        self.named |= {name: self.make_file(filename=name, content=b"good") for name in names}

    def set_pause(self, seconds: float) -> None:
        """Let the plugin rest after each file."""
        config = {**self.setting.config, "pause": seconds}
        self.setting = replace(self.setting, config=config)

    def steps(self) -> list[str]:
        """Name the steps of a pass that nobody disturbs."""
        path = self.place / "steps"
        self.begin()

        def write_down() -> None:
            file = path.open("a", buffering=1)
            steps.reached = lambda name: print(name, file=file)  # type: ignore[assignment]

        assert self.run(0, write_down) == 0
        self.check_end()
        return path.read_text().splitlines()

    def events(self) -> dict[str, list[FileEvent]]:
        """Give the history of each file."""
        found: dict[str, list[FileEvent]] = {name: [] for name in self.named}
        for event in FileEvent.objects.select_related("file").order_by("id"):
            found[event.file.filename].append(event)
        return found

    def check(self) -> None:
        """I5, I6, and every history is one that may be."""
        current = dict(Ingestion.objects.values_list("file__filename", "status"))
        last = dict(Ingestion.objects.values_list("file__filename", "last_event"))
        for name, events in self.events().items():
            was = ""
            outcomes: Counter[object] = Counter()
            for event in events:
                assert event.status in FOLLOWS[was], f"{name}: {event.status} after {was}"
                was = event.status
                if event.claim and event.status != Status.PENDING:
                    outcomes[event.claim] += 1
            assert current.get(name, "") == was, f"I6: {name}"
            assert last.get(name) == (events[-1].pk if events else None), f"I6: {name}"
            assert set(outcomes.values()) <= {1}, f"I5: {name}: two outcomes of a claim"
            begun = {e.claim for e in events if e.status == Status.PENDING}
            open_ = begun - set(outcomes)
            assert len(open_) == (was == Status.PENDING), f"I5: {name}: an attempt without outcome"

    def check_end(self) -> None:
        """What must be so when a pass has come to its end."""
        self.check()
        assert not claims.anything_held(self.ingester.pk), "I4"
        assert self.asked() == 1, "asked for once"
        self.check_statuses()

    def asked(self) -> int:
        return FileEvent.objects.filter(user=OPERATOR, status=Status.RERUN).count()

    def statuses(self) -> dict[str, str]:
        return dict(Ingestion.objects.values_list("file__filename", "status"))

    def counts(self) -> Counter[str]:
        """Tell how often the target was given each file."""
        return Counter(self.list.read_text().split()) if self.list.exists() else Counter()

    def check_statuses(self) -> None:
        """Whoever can ask the target leaves nothing in doubt."""
        assert self.statuses() == dict.fromkeys(self.files, Status.SUCCESS)
        assert self.counts() == dict.fromkeys(self.files, 1)


class Counted(Scene):
    """A plugin that cannot tell: what was under way is in doubt, and nothing is tried twice."""

    plugin = "tests.system.observatory_plugins.Counting"
    keys = {"batch_size": 3}  # noqa: RUF012

    def check_statuses(self) -> None:
        statuses = self.statuses()
        assert set(statuses) == set(self.files)
        assert set(statuses.values()) <= {Status.SUCCESS, Status.UNKNOWN}
        counts = self.counts()
        assert max(counts.values()) == 1
        sure = {name for name, status in statuses.items() if status == Status.SUCCESS}
        assert sure <= set(counts)
        # The operator asks for those in doubt, and only those may be there twice.
        rerun(Ingestion.objects.filter(status=Status.UNKNOWN), user="somebody else")
        assert self.run(9) == 0
        self.check()
        assert self.statuses() == dict.fromkeys(self.files, Status.SUCCESS)
        counts = self.counts()
        assert all(counts[name] == 1 for name in sure), counts
        assert all(1 <= counts[name] <= 2 for name in self.files), counts


class Several(Counted):
    """Several batches in one claim: only the one that was begun is in doubt.

    Outcomes are written together with the beginning of the next batch.
    """

    keys = {"batch_size": 1}  # noqa: RUF012
    flush_s = 60.0

    def check_statuses(self) -> None:
        statuses = list(self.statuses().values())
        # Two passes are killed at most.
        assert statuses.count(Status.UNKNOWN) <= 2, statuses
        super().check_statuses()


class Mixed(Scene):
    """Files with different fates: one kills the plugin, so that others are given back."""

    plugin = "tests.ingest.worker_plugins.ByContent"
    keys = {"batch_size": 5, "exclude_list": ["ignored"]}  # noqa: RUF012
    files = {  # noqa: RUF012
        "good": b"good",
        "evil": b"kill",
        "bad": b"bad",
        "empty": b"",
        "ignored": b"good",
        AGAIN: b"good",
    }

    def check_statuses(self) -> None:
        sure = {"empty": Status.INVALID, "ignored": Status.IGNORED, "evil": Status.UNKNOWN}
        maybe = {"good": Status.SUCCESS, "bad": Status.FAILURE, AGAIN: Status.SUCCESS}
        for name, status in self.statuses().items():
            allowed = {sure[name]} if name in sure else {maybe[name], Status.UNKNOWN}
            assert status in allowed, f"{name} is {status}"


SCENES = [Scene, Counted, Several, Mixed]
