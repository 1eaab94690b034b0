"""The program inside the box: standard library only, Python 3.9 or later.

It is not installed there: the runner sends these modules over the box's standard input
(see `boot.py`), so their version always is the runner's own and no mount is needed.
"""
