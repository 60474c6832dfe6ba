"""Ends Dagster's runs that the database calls under way, of an instance of which no run's process is alive.

Dagster notices a killed worker only through the code server that began it. Where both were killed, as by a power cut,
its run would be under way for ever, and keep its place in the pools, so that no later run of any day got one. So this
runs before a code server starts that is the only one of its instance and whose runs end with it: the local stack's,
the container's, the unit's.

python -m deploy.lost_runs    DAGSTER_HOME is the instance's; says how many it ended
"""

import dagster as dg

MESSAGE = "Its processes ended with the stack that they ran on. What they had committed stays: launch the run again."
STATUSES = (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)


def end_lost_runs(instance: dg.DagsterInstance) -> int:
    """Mark the runs as failed, those that were being cancelled as cancelled, and free their places in the pools."""
    runs = instance.get_runs(dg.RunsFilter(statuses=list(STATUSES)))
    for run in runs:
        if run.status == dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, MESSAGE)
        else:
            instance.report_run_failed(run, MESSAGE)
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    return len(runs)


if __name__ == "__main__":
    with dg.DagsterInstance.get() as found:
        print(f"{end_lost_runs(found)} run(s) of an earlier start were under way and are marked as ended")
