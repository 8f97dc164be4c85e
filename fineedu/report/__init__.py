"""Stage: report. One HTML file that shows what a run kept, what it dropped, and why."""
