"""The whole way of some twenty files, for real, in a directory of its own (`manage.py demo`).

`samples` says which files there are and what is to become of each, `place` makes the directory,
`landing` lets the files arrive, `processes` starts the program's own commands, `fates` reads from
disk and database what became of every file, `narrator` prints, and `story` puts it together.
"""
