"""The front as a figure to point at, and the table of tighter budgets."""

from xml.etree import ElementTree

from automoe_jax.report.cost_axis import cost_axis
from automoe_jax.report.front import figure, tighter
from tests.report.candidates import candidate

FRONT = [candidate(2.0, 1e6, "random"), candidate(1.5, 2e6, "random"), candidate(1.2, 4e6, "x")]

AXIS = cost_axis("flops", FRONT)


def test_every_member_has_its_costs_and_a_link_to_its_row():
    root = ElementTree.fromstring(figure(FRONT, [1, 2, 3], AXIS))
    links = root.findall(".//a")
    assert [link.get("href") for link in links] == ["#front-1", "#front-2", "#front-3"]
    title = links[1].find("circle/title")
    assert title.text.startswith("front:2: loss 1.5, 2e+06 FLOPs")
    heights = [float(link.find("circle").get("cy")) for link in links]
    assert heights == sorted(heights, reverse=True)  # a lower loss is further up


def test_a_single_member_is_drawn():
    assert figure(FRONT[:1], [1], AXIS).count("<circle") == 1


def test_tighter_budgets_cost_loss():
    stopped = candidate(0.1, 1e6, "mutation", share=0.5)
    _, rows = tighter([*FRONT, stopped], {"flops": 4e6})
    lowest = "<td>1.200</td>" + "<td>1.500</td>" * 4
    assert rows == f"<tr><td>FLOPs</td>{lowest}</tr>"
