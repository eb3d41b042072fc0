"""From parallel text and a budget to a small, fast mixture-of-experts translator.

The package imports nothing here on purpose: `arch`, `space` and `costs` answer without JAX.
"""

__version__ = "0.1.0"
