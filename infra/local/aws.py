"""Starts the local AWS. As on AWS, instances of a function finish their work when it gets new code or settings."""

import sys
import threading
import time

from ministack.app import main
from ministack.core import lambda_runtime as runtime
from ministack.services import lambda_svc as functions

# The longest time that a function may take.
LONGEST_S = 900
replacing = threading.local()
end_now = functions.invalidate_worker


def gently(change):
    """A change of a function, which lets its instances finish."""

    def changed(*arguments):
        replacing.is_gentle = True
        try:
            return change(*arguments)
        finally:
            replacing.is_gentle = False

    return changed


def end(name, **scope):
    if not getattr(replacing, "is_gentle", False):
        return end_now(name, **scope)
    # A key is account, region, function and version.
    with runtime._lock:
        keys = [key for key in runtime._workers if key.split(":")[2:] == [name, "$LATEST"]]
        leaving = [instance for key in keys for instance in runtime._workers.pop(key)]
    threading.Thread(target=let_finish, args=(leaving,), daemon=True).start()


def let_finish(instances):
    until = time.monotonic() + LONGEST_S
    while instances and time.monotonic() < until:
        runtime.kill_workers([instance for instance in instances if not instance.in_use])
        instances = [instance for instance in instances if instance.in_use]
        time.sleep(0.05)
    runtime.kill_workers(instances)


functions.invalidate_worker = end
functions._update_code = gently(functions._update_code)
functions._update_config = gently(functions._update_config)

sys.exit(main())
