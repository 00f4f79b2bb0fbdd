"""Measurements: ``python -m bench`` prints ratios side by side, from one run on one machine.

Absolute figures depend on the machine; what is compared here runs on the same one, in turns, within minutes.
"""
