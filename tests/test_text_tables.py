from __future__ import annotations

from pcloud.text_tables import html_paragraph, html_table, html_text


def test_every_cell_is_escaped():
    page = html_table([["<a>", "b&c"], ["<i>", "1 < 2"]], caption="x > y")
    assert page.startswith("<table><caption>x &gt; y</caption>")
    for cell in ("<th>&lt;a&gt;</th>", "<th>b&amp;c</th>", "<th>&lt;i&gt;</th>"):
        assert cell in page
    assert "<td>1 &lt; 2</td>" in page


def test_texts_are_escaped():
    assert html_text("< 3", title='"DeLong"') == '<span title="&quot;DeLong&quot;">&lt; 3</span>'
    assert html_paragraph("a & b") == "<p>a &amp; b</p>"
