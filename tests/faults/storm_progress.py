"""How far a storm is: those of `make drills` and `make faults` take half an hour."""


def tell_tenths(done: int, total: int, what: str) -> None:
    """Print at each tenth of `total`; pytest shows it at once with -s."""
    if done * 10 // total > (done - 1) * 10 // total:
        print(f"  {done} of {total} {what}", flush=True)
