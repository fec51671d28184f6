"""What goes wrong, injected for real, and what must then hold.

One module for each group of faults; each can be run alone. What takes long is marked ``full``:
``make faults`` runs it, ``make test`` does not.
"""
