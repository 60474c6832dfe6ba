"""When things run: schedules, the landing sensor, the run-failure sensor.

Each sensor has a cursor, says why it skipped, bounds its work per tick and tells one alert a cause. Schedules and the
landing sensor are off until someone starts them in the UI; only the alert on failures is on from the start.
"""
