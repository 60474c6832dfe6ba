"""Assets about the platform itself: the verdict over a run's landing days, and partitions kept ahead of time.

Backups, drills, health and indexes will stand here. What belongs to one system stands in its folder.
"""
