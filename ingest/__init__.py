"""Targets: giving stored files to data management systems, and the history of every try."""
