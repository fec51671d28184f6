"""Raw files into an LSST Gen3 Butler repository with packages from PyPI alone.

Nothing here is imported before a plugin or a command asks for it: the packages are an extra, listed
in ``requirements-butler.txt``.  Modules, in the order in which a file meets them:

`.headers`
    FITS file or sidecar to observation metadata.
`.records`
    Observation metadata to the Butler's dimension records.
`.registered`
    What the repository knows: instruments, detectors, filters, the dataset type.
`.rawfile`
    All of the above for one file: what is to be ingested, and where it would go.
`.presence`
    Is it there already, and from which file?
`.batch`, `.results`
    A batch of files into the repository, and what became of each.
`.task`
    `~ingest.butler.task.ButlerIngestTask`: the same with RawIngestTask's interface.
`.rawtask`
    Outcomes from ``lsst.obs.base.RawIngestTask``, which reports by callbacks.
`.visits`
    Visits, by the stack's task.
`.setup`, `.target`
    From the plugin's configuration to a repository that files can be given to.
`.instruments`, `.formatter`, `.repository`
    Two cameras, a reader of pixels, and a repository that has them registered.
"""

from __future__ import annotations

__version__ = "1.0.0"
