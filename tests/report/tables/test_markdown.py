"""Tables in Markdown: read by a reader of Markdown, they are what was shown."""

import pandas as pd
from bs4 import BeautifulSoup
from nbconvert.filters import markdown2html

from vitlib.report.tables import formatted, markdown

TABLE = pd.DataFrame({"model": ["a", "b | c"], "largest |Δlogit|": [3e-8, 0.25], "n": [1, 2000]})


def test_a_bar_in_a_name_or_a_cell_ends_neither():
    page = BeautifulSoup(markdown2html(markdown(TABLE)), "html.parser")
    read = [[cell.get_text() for cell in row.find_all(["th", "td"])] for row in page.find_all("tr")]
    assert read == [list(TABLE), *formatted(TABLE).to_numpy().tolist()]
