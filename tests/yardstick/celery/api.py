"""The API before the worker: accepts a webhook, writes its status, queues it."""

import uuid

from fastapi import FastAPI
from pydantic import BaseModel
from worker import deliver, note

app = FastAPI()


class Webhook(BaseModel):
    webhook_url: str
    payload: dict


@app.post("/webhooks", status_code=202)
def accept(webhook: Webhook):
    webhook_id = uuid.uuid4().hex
    note(webhook_id, "pending")
    deliver.apply_async(args=[webhook_id, webhook.webhook_url, webhook.payload], task_id=webhook_id)
    return {"webhook_id": webhook_id, "status": "pending"}
