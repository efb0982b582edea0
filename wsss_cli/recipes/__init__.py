"""Chains of tools as commands: what to run is planned in one file each, and run by run.py."""
