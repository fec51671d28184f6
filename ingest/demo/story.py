"""The demo from its first step to its last."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from pathlib import Path

from buffer import config, database
from buffer.database import ENVIRONMENT_VARIABLE
from buffer.finder_config import FinderFile
from buffer.names import escape
from ingest.demo.fates import Fate, fates, strangers
from ingest.demo.landing import SlowWriter, land, original, write_originals
from ingest.demo.narrator import Narrator
from ingest.demo.place import INGESTER_NAME, Place, make_place
from ingest.demo.processes import Commands
from ingest.demo.samples import Arrival, Sample, samples
from ingest.statuses import Status

USER = "demo"
_SECOND_CAMERA = "ingest.butler.instruments.DarkEnergyCamera"


class Demo:
    """One run of the demo.

    Parameters
    ----------
    directory : `pathlib.Path`
        Made anew; nothing else is written to.
    password : `str`, optional
        Of the admin's user; the default is a new one.
    narrator : `ingest.demo.narrator.Narrator`, optional
        Tells what happens.
    """

    def __init__(
        self, directory: Path, *, password: str | None = None, narrator: Narrator | None = None
    ) -> None:
        self._directory = directory
        self._password = password or secrets.token_urlsafe(9)
        self._tell = narrator or Narrator()
        self._samples = samples()

    def run(self) -> list[str]:
        """Run it from its first step to its last.

        Returns
        -------
        surprises : `list` [`str`]
            What did not turn out as planned; empty if all is well.
        """
        begun = time.monotonic()
        place = make_place(self._directory)
        commands = Commands(place)
        self._begin(place, commands)
        self._backfill(place, commands)
        writer = self._take_in(place, commands)
        self._ingest(place, commands)
        self._mend_and_rerun(place, commands)
        found = self._look_at_repository(place, commands)
        told = fates(place, self._samples, writer)
        surprises = [*self._surprises(told), *found]
        self._end(told, surprises, time.monotonic() - begun)
        return surprises

    def _begin(self, place: Place, commands: Commands) -> None:
        self._tell.step(
            "A directory, a database, a user, a repository",
            f"Everything is in {escape(place.root)}, made anew.",
        )
        self._tell.command("manage.py migrate")
        commands.manage("migrate", "--verbosity", "0")
        self._use_database(place)
        self._tell.command(f"manage.py createsuperuser --username {USER}")
        commands.manage(
            "createsuperuser",
            "--noinput",
            f"--username={USER}",
            "--email=demo@localhost",
            DJANGO_SUPERUSER_PASSWORD=self._password,
        )
        write_originals(place, self._samples)
        self._make_repository(place)

    def _use_database(self, place: Place) -> None:
        # This process only looks. What it was started with, it must not look at.
        os.environ.pop(ENVIRONMENT_VARIABLE, None)
        database.use(config.load(str(place.finder_yaml), FinderFile).database)

    def _make_repository(self, place: Place) -> None:
        from ingest.butler.repository import make_repository
        from ingest.plugins.gen3 import Gen3Ingest

        make_repository(place.repository, ["HSC"])
        paths = []
        for sample in self._of(Arrival.BEFORE):
            target = place.storage / sample.path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(original(place, sample), target)
            paths.append(str(target))
        outcomes = list(Gen3Ingest({"butler": {"root": str(place.repository)}}).ingest(paths))
        failed = [outcome.message for outcome in outcomes if not outcome.ok]
        if failed:
            raise RuntimeError(f"the repository does not take its first files: {failed[0]}")
        self._tell.say(
            "A Butler repository that knows one camera, Hyper Suprime-Cam, and has "
            f"{len(paths)} raws of an earlier night, which lie in the storage area."
        )

    def _backfill(self, place: Place, commands: Commands) -> None:
        self._tell.step(
            "Backfill", "What was in storage before this program came is registered, not ingested."
        )
        self._manage(commands, place, "backfill", place.backfill_yaml)

    def _take_in(self, place: Place, commands: Commands) -> SlowWriter:
        count = len(self._samples) - len(self._of(Arrival.BEFORE))
        self._tell.step(
            "Files land while the finder is at work",
            f"{count} files, in no order. One is written piece by piece over several seconds. One "
            "comes a second time,\none with the name of another but other content; one is cut "
            "short, and one is an HTML page.",
        )
        self._tell.command(f"manage.py runfinder {self._short(place, place.finder_yaml)} &")
        with commands.running("runfinder", str(place.finder_yaml)) as finder:
            writer = land(place, self._samples, finder.require_alive)
            self._tell.command("kill -TERM %1")
            self._tell.output(finder.stop())
        left = sorted(
            str(path.relative_to(place.buffer))
            for path in place.buffer.rglob("*")
            if path.is_file()
        )
        self._tell.say(f"Left in the buffer, for a person to decide: {escape(', '.join(left))}")
        return writer

    def _ingest(self, place: Place, commands: Commands) -> None:
        self._tell.step(
            "The ingester gives them to the repository",
            "Six files are of a camera that the repository was not told of, and two are broken.",
        )
        self._manage(commands, place, "runingester", place.ingester_yaml, "--once")
        missing = next(sample for sample in self._samples if Status.RERUN in sample.outcomes)
        self._manage(commands, place, "explain", place.storage / missing.path)

    def _mend_and_rerun(self, place: Place, commands: Commands) -> None:
        self._tell.step(
            "A cause is mended, and its files are tried again",
            "The files' messages say what is missing: the second camera, DECam. It is registered, "
            "and the files that\nfailed for want of it are asked for again. The two broken ones "
            "stay as they are.",
        )
        repository = str(place.repository)
        self._tell.command(
            f"butler register-instrument {self._short(place, place.repository)} {_SECOND_CAMERA}"
        )
        commands.butler("register-instrument", repository, _SECOND_CAMERA)
        self._manage(
            commands,
            place,
            "rerun",
            f"--ingester={INGESTER_NAME}",
            f"--status={Status.FAILURE}",
            "--error=not registered",
            f"--user={USER}",
            "--note=DECam is registered now",
        )
        self._manage(commands, place, "runingester", place.ingester_yaml, "--once")

    def _look_at_repository(self, place: Place, commands: Commands) -> list[str]:
        self._tell.step("What the repository has")
        self._tell.command(
            f"butler query-datasets {self._short(place, place.repository)} raw --collections '*'"
        )
        output = commands.butler(
            "query-datasets", str(place.repository), "raw", "--collections", "*"
        )
        self._tell.output(output)
        count = sum(line.split()[:1] == ["raw"] for line in output.splitlines())
        planned = sum(sample.datasets for sample in self._samples)
        self._tell.say(f"{count} raws, one of each detector of each file.")
        if count != planned:
            return [f"the repository: {count} raws, not {planned}"]
        return []

    def _surprises(self, told: list[Fate]) -> list[str]:
        lines = [f"{fate.sample.path}: {text}" for fate in told for text in fate.surprises]
        lines += [f"{path}: nobody sent it" for path in strangers(self._samples)]
        return lines

    def _end(self, told: list[Fate], surprises: list[str], seconds: float) -> None:
        self._tell.table(told)
        if surprises:
            self._tell.say(f"\nNot everything turned out as planned, in {seconds:.0f} s:")
            self._tell.output("\n".join(map(escape, surprises)))
            return
        self._tell.say(
            f"\nAll {len(told)} files came out as planned, in {seconds:.0f} s. To see them in the "
            "admin, run\n\n"
            "    make admin\n\n"
            "    address   http://127.0.0.1:8000/admin/\n"
            f"    user      {USER}\n"
            f"    password  {self._password}\n"
        )

    def _manage(self, commands: Commands, place: Place, *arguments: str | Path) -> None:
        shown = " ".join(self._short(place, argument) for argument in arguments)
        self._tell.command(f"manage.py {shown}")
        self._tell.output(commands.manage(*map(str, arguments)))

    def _of(self, arrival: Arrival) -> list[Sample]:
        return [sample for sample in self._samples if sample.arrival is arrival]

    @staticmethod
    def _short(place: Place, argument: str | Path) -> str:
        """Write an argument as a person would who is in the directory above the demo's."""
        if isinstance(argument, Path):
            return str(argument.relative_to(place.root.parent))
        if " " in argument:
            option, _, value = argument.partition("=")
            return f"{option}='{value}'"
        return argument
