"""The package that the example DAGs train with: `python setup.py sdist`, then copy it to the bucket."""

from setuptools import setup

setup(name="trainer", version="0.1", packages=["trainer"])
