from __future__ import annotations

from senet_convert.converter.report.page.markup import figure, plural, shape, tag


def test_text_is_escaped_and_markup_is_not() -> None:
    assert tag("p", "<&\"'>", tag("b", "x")) == "<p>&lt;&amp;&quot;&#x27;&gt;<b>x</b></p>"
    assert tag("a", None, class_="n", aria_label='"', id=None) == '<a class="n" aria-label="&quot;"></a>'


def test_numbers_as_text() -> None:
    assert [figure(value) for value in (None, 0.0, 4.06e-7, 2e-6, 0.5)] == [
        "not finite",
        "0",
        "4.1e-7",
        "2.0e-6",
        "5.0e-1",
    ]
    assert (shape([]), shape(["batch", 3, None])) == ("scalar", "batch×3×?")
    assert (plural(1, "blob"), plural(1200, "blob")) == ("1 blob", "1,200 blobs")
