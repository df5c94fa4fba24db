"""Labels by file: what a file may say, its dates, and how its labels are stored."""
