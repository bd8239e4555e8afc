"""Fuzz targets for atheris: `python -m fuzz.run` runs them."""
