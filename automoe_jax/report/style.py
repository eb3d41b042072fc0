"""Style sheet of the page. Colours are variables of `palette`, so light and dark differ in one
place.
"""

from automoe_jax.report import palette
from automoe_jax.report.drawing import FONT

_SHEET = """
:root { color-scheme: light dark; LIGHT }
@media (prefers-color-scheme: dark) { :root { DARK } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 FONT;
  -webkit-text-size-adjust: 100%; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 28px 72px; }
header p.kind { margin: 0; color: var(--muted); font-size: 14px; }
h1 { font-size: 28px; line-height: 1.25; font-weight: 650; letter-spacing: -.012em;
  margin: 6px 0 10px;
  max-width: 38em; text-wrap: balance; }
h2 { font-size: 20px; line-height: 1.3; font-weight: 650; margin: 52px 0 6px; }
h3 { font-size: 15px; font-weight: 650; margin: 22px 0 6px; }
p { margin: 6px 0 12px; max-width: 46em; }
p.quiet, figcaption, .caveats { color: var(--muted); font-size: 14.5px; }
.caveats { margin: 0 0 4px; max-width: 46em; }
a { color: var(--supernet); }
nav { margin: 14px 0 0; font-size: 14.5px; display: flex; flex-wrap: wrap; gap: 2px 18px; }
code, pre { font-size: 13px; overflow-wrap: anywhere;
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace; }
pre { background: var(--paper); border: 1px solid var(--line); border-radius: 8px;
  padding: 12px 14px;
  white-space: pre-wrap; margin: 8px 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 12px;
  margin: 24px 0 0; }
.tile { background: var(--paper); border: 1px solid var(--line); border-radius: 10px;
  padding: 12px 16px 13px; }
.tile dt { color: var(--muted); font-size: 13.5px; }
.tile dd { margin: 0; }
.tile .value { font-size: 27px; font-weight: 650; line-height: 1.25;
  font-variant-numeric: tabular-nums; letter-spacing: -.01em; }
.tile .unit { font-size: 15px; font-weight: 500; color: var(--muted); margin-left: 4px;
  letter-spacing: 0; }
.tile .more { color: var(--muted); font-size: 13.5px; display: block; }
figure { margin: 14px 0 0; }
figure .paper { background: var(--paper); border: 1px solid var(--line); border-radius: 10px;
  padding: 18px; }
figcaption { margin: 8px 2px 0; max-width: 54em; }
figure svg { display: block; width: 100%; height: auto; stroke-linejoin: round;
  stroke-linecap: butt; }
.narrow { display: none; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; background: var(--paper); font-size: 14.5px;
  font-variant-numeric: tabular-nums; }
.card { border: 1px solid var(--line); border-radius: 10px; overflow: hidden;
  background: var(--paper); margin-top: 14px; }
th, td { padding: 8px 10px; text-align: right; vertical-align: top;
  border-top: 1px solid var(--grid); white-space: nowrap; }
thead th { border-top: 0; color: var(--muted); font-weight: 500; font-size: 13.5px;
  white-space: normal;
  vertical-align: bottom; line-height: 1.3; }
th:first-child, td:first-child { text-align: left; padding-left: 16px; }
th:last-child, td:last-child { padding-right: 16px; }
tbody th { font-weight: 500; white-space: normal; overflow-wrap: anywhere; min-width: 15em; }
tbody th small { display: block; color: var(--muted); font-weight: 400; font-size: 13px; }
tr.found th, tr.found td { background: color-mix(in srgb, var(--found-soft) 45%, transparent); }
tr.found th { font-weight: 650; }
.best { font-weight: 700; }
.best::before { content: ""; display: inline-block; width: 6px; height: 6px; border-radius: 50%;
  background: var(--found); margin-right: 6px; vertical-align: .12em; }
.missing { color: var(--ghost); }
.plain td { white-space: normal; overflow-wrap: anywhere; text-align: left; }
.plain th { font-weight: 400; color: var(--muted); min-width: 0; width: 15em;
  overflow-wrap: break-word; }
div.plain { max-width: 44em; }
.samples { display: grid; gap: 12px; margin-top: 14px; }
.sample { background: var(--paper); border: 1px solid var(--line); border-radius: 10px;
  padding: 12px 16px; }
.sample dl { display: grid; grid-template-columns: 13em 1fr; gap: 4px 16px; margin: 0; }
.sample dt { color: var(--muted); font-size: 14px; line-height: 1.7; }
.sample dd { margin: 0; overflow-wrap: anywhere; min-width: 0; }
.sample .source { font-weight: 600; }
.sample .reference { padding-bottom: 6px; border-bottom: 1px solid var(--grid); }
.off { text-decoration: underline dotted var(--found); text-decoration-thickness: 2px;
  text-underline-offset: 4px; }
.same { color: var(--muted); font-size: 13px; margin-left: 6px; white-space: nowrap; }
details { margin-top: 12px; }
summary { cursor: pointer; color: var(--supernet); width: fit-content; }
.stages { display: grid; grid-template-columns: max-content 1fr max-content; gap: 6px 14px;
  align-items: center;
  max-width: 46em; margin: 12px 0; font-size: 14.5px; }
.stages .bar { height: 10px; border-radius: 3px; background: var(--supernet); min-width: 2px; }
.stages .time { font-variant-numeric: tabular-nums; text-align: right; }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
  white-space: nowrap; }
@media (max-width: 700px) {
  main { padding: 22px 14px 48px; }
  h1 { font-size: 23px; }
  h2 { margin-top: 40px; }
  .wide { display: none; }
  .narrow { display: block; }
  figure .paper { padding: 10px 8px; }
  .tiles { grid-template-columns: 1fr 1fr; gap: 8px; }
  .tile { padding: 9px 12px; }
  .tile .value { font-size: 22px; }
  .sample dl { grid-template-columns: 1fr; gap: 0; }
  .sample dt { margin-top: 7px; font-size: 13px; line-height: 1.4; }
  .results, .results tbody { display: block; }
  .plain th { width: 40%; }
  .results thead { display: none; }
  .results tr { display: grid; grid-template-columns: 1fr 1fr; gap: 0 26px; padding: 11px 14px;
    border-top: 1px solid var(--line); }
  .results tr:first-child { border-top: 0; }
  .results tr.found { background: color-mix(in srgb, var(--found-soft) 45%, transparent); }
  .results tr.found th, .results tr.found td { background: none; }
  .results th { grid-column: 1 / -1; }
  .results th, .results td { border: 0; padding: 1px 0 !important; }
  .results td { display: flex; justify-content: space-between; gap: 12px; }
  .results td::before { content: attr(data-label); color: var(--muted); }
  .results td.missing-cell { display: none; }
}
@media print { body { background: none; } .sample, .tile, figure { break-inside: avoid; } }
"""


def style_sheet() -> str:
    """The style sheet with its colours and font."""
    filled = (
        _SHEET.replace("LIGHT", palette.variables(0))
        .replace("DARK", palette.variables(1))
        .replace("FONT", FONT)
    )
    return filled.lstrip()
