"""Registers an endpoint, sends an event, and reads what became of it, all with the client that
clients.rs has generated from the contract."""

import json
import os
import time

from steadhook_client import Client
from steadhook_client.api.endpoints import create_endpoint
from steadhook_client.api.events import create_event, get_event
from steadhook_client.api.history import get_delivery
from steadhook_client.models import (
    AcceptedEvent,
    CreatedEndpoint,
    Delivery,
    EndpointState,
    Event,
    EventStatus,
    NewEndpoint,
    NewEvent,
    Problem,
    Status,
)

PATIENCE_S = 60
client = Client(base_url=os.environ["API_URL"], raise_on_unexpected_status=True)
tenant = os.environ["TENANT"]


def until(read, is_done):
    deadline = time.monotonic() + PATIENCE_S
    while not is_done(seen := read()):
        assert time.monotonic() < deadline, seen
        time.sleep(0.2)
    return seen


refused = create_endpoint.sync(tenant, client=client, body=NewEndpoint(url="ftp://a.example/"))
assert isinstance(refused, Problem) and refused.status == 422, refused
assert [fault.pointer for fault in refused.errors] == ["/url"], refused

new = NewEndpoint(url=os.environ["RECEIVER_URL"], event_types=["order.paid"])
endpoint = create_endpoint.sync(tenant, client=client, body=new)
assert isinstance(endpoint, CreatedEndpoint) and endpoint.state is EndpointState.ENABLED, endpoint

new = NewEvent(event_type="order.paid", payload=json.loads(os.environ["PAYLOAD"]))
accepted = create_event.sync(tenant, client=client, body=new)
assert isinstance(accepted, AcceptedEvent) and not accepted.duplicate, accepted

event = until(
    lambda: get_event.sync(tenant, accepted.event_id, client=client),
    lambda event: event.status is EventStatus.FANNED_OUT,
)
assert isinstance(event, Event) and (event.matched, event.queued) == (1, 1), event
assert event.webhook_id == accepted.webhook_id and event.accepted_at.tzinfo, event

delivery = until(
    lambda: get_delivery.sync(tenant, accepted.event_id, endpoint.id, client=client),
    lambda delivery: isinstance(delivery, Delivery) and delivery.status is Status.DELIVERED,
)
assert [attempt.status_code for attempt in delivery.attempts] == [200], delivery
print(json.dumps({"webhook_id": event.webhook_id, "secret": endpoint["secret"]}))
