"""Queues webhooks for the worker: fill.py COUNT URL BYTES."""

import json
import sys
import uuid

from worker import deliver, note

count, url, size = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
payload = {"type": "bench", "note": ""}
payload["note"] = "x" * (size - len(json.dumps(payload)))
for _ in range(count):
    webhook_id = uuid.uuid4().hex
    note(webhook_id, "pending")
    deliver.apply_async(args=[webhook_id, url, payload], task_id=webhook_id)
