"""The front door: your model and your photos in, a smaller plain timm model and the numbers before and after out.

doors.py has the four calls (students.py the kinds of distillation), call.py what they share; given/ is what comes in, back/ what goes out;
shell.py is `python -m vitlib compress`, own/ the notebook your_model.ipynb. Every training is a run of the documents (`vitlib.papers`),
described here and computed there.
"""
