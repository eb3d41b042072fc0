"""The report: `report.html` and `report.md` with the figures, and the results table of the
terminal.

Everything here turns plain data (`ReportContents`) into text; nothing reads the workdir and nothing
imports JAX.
"""

from automoe_jax.report.contents import ReportContents
from automoe_jax.report.rows import Role, Row, RowKey, Sample
from automoe_jax.report.tables import results_table
from automoe_jax.report.write import write_report

__all__ = [
    "ReportContents",
    "Role",
    "Row",
    "RowKey",
    "Sample",
    "results_table",
    "write_report",
]
