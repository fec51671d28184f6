"""Files: what arrived, how it was taken into storage, and where it is."""

__version__ = "1.0.0"
