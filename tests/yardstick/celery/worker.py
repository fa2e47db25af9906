"""What Steadhook replaces: a Celery worker on Redis that posts webhooks.

Four processes, one message fetched ahead, acknowledged late; three retries with
exponential backoff and jitter; a status key for each webhook, kept 30 minutes when
it is delivered and 7 days otherwise.
"""

import json
import os
import random
import time

import redis
import requests
from celery import Celery
from celery.signals import worker_process_init

BROKER = os.environ["REDIS_URL"]
MAX_RETRIES = 3
TTL_DELIVERED_S = 30 * 60
TTL_UNFINISHED_S = 7 * 24 * 3600

app = Celery("worker", broker=BROKER)
app.conf.update(
    accept_content=["json"],
    broker_connection_retry_on_startup=True,
    task_acks_late=True,
    task_serializer="json",
    task_time_limit=3600,
    worker_concurrency=4,
    worker_prefetch_multiplier=1,
)

store = redis.Redis.from_url(BROKER)
http = requests.Session()
http.trust_env = False


@worker_process_init.connect
def fresh_connections(**_):
    """A forked process must not share sockets with its parent."""
    global store, http
    store = redis.Redis.from_url(BROKER)
    http = requests.Session()
    http.trust_env = False


def note(webhook_id, status, **more):
    """Writes the status that clients ask for."""
    record = {"webhook_id": webhook_id, "status": status, "updated_at": time.time(), **more}
    ttl = TTL_DELIVERED_S if status == "delivered" else TTL_UNFINISHED_S
    store.set(f"webhook_status:{webhook_id}", json.dumps(record), ex=ttl)


@app.task(bind=True, max_retries=MAX_RETRIES, name="deliver")
def deliver(self, webhook_id, url, payload):
    """One attempt."""
    attempts = self.request.retries + 1
    try:
        answer = http.post(url, json=payload, timeout=15)
        answer.raise_for_status()
    except requests.RequestException as error:
        failed = attempts > MAX_RETRIES
        note(webhook_id, "failed" if failed else "retrying", attempts=attempts, error=str(error)[:200])
        if failed:
            raise
        wait = min(900, 10 * 4 ** self.request.retries)
        raise self.retry(exc=error, countdown=wait * random.uniform(0.5, 1.0))
    note(webhook_id, "delivered", attempts=attempts, code=answer.status_code)
