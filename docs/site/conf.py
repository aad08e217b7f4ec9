"""Settings of Sphinx."""

from pathlib import Path

from docs.site.api import escaped
from docs.site.layout import MATHJAX, mathjax

project, language = "vitlib", "en"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
exclude_patterns = ["_files"]

suppress_warnings = ["myst.header"]  # a committed table starts below the heading that its page gets
nb_execution_mode, nb_render_markdown_format, nb_merge_streams = "off", "myst", True
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "attrs_block"]
myst_heading_anchors = 4

default_role = "literal"
autodoc_member_order, autodoc_typehints, autodoc_inherit_docstrings = "bysource", "signature", False
add_module_names = False

html_theme, html_title = "sphinx_book_theme", "vitlib"
html_theme_options = {
    "show_toc_level": 2, "use_download_button": False, "use_fullscreen_button": False, "logo": {"text": "vitlib"}, "show_navbar_depth": 1,
}  # fmt: skip
html_static_path, html_css_files = [str(Path(__file__).with_name("static")), str(mathjax())], ["site.css"]
html_js_files = ["site.js"]
html_use_index = html_domain_indices = False
html_copy_source = html_show_sourcelink = html_show_sphinx = html_show_copyright = False
mathjax_path = MATHJAX[1]
mathjax3_config = {"options": {"enableMenu": False}}


def setup(app):
    app.connect("autodoc-process-docstring", lambda app, what, name, obj, options, lines: lines.__setitem__(slice(None), escaped(lines)))
