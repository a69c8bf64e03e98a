"""The result of a run for human eyes: score table, charts, pictures of every step, one HTML file.

Nothing is imported here, so that the terminal table (`tfwsss.report.table`) does not load matplotlib.
"""
