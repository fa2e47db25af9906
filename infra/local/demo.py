#!/usr/bin/env python3
"""Sends webhooks through the local stack and shows the result of each.

The receiver verifies every signature with its own implementation. The script exits with
an error if a result differs from the expected one. It uses only the standard library.
"""

import base64
import hashlib
import hmac
import http.server
import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCAL = Path(os.environ.get("STEADHOOK_LOCAL", ROOT / ".local"))
PATIENCE_S = 60
BOLD, DIM, GREEN, RED, PLAIN = ("\033[1m", "\033[2m", "\033[32m", "\033[31m", "\033[0m") \
    if sys.stdout.isatty() else ("",) * 5


def stack_env():
    try:
        lines = (LOCAL / "stack.env").read_text().splitlines()
    except OSError:
        sys.exit("demo.py: the local stack is not running. Run `make demo` to start it.")
    exports = (line.removeprefix("export ").partition("=") for line in lines if line.startswith("export "))
    return {name: value.strip("'") for name, _, value in exports}


ENV = stack_env()
# Do not use a proxy for the local stack.
urllib.request.install_opener(urllib.request.build_opener(urllib.request.ProxyHandler({})))
STARTED = time.time()
RUN = uuid.uuid4().hex[:6]


class Receiver:
    """Answers with the planned status codes of each path and records all calls."""

    def __init__(self):
        self.plans = {}
        self.seen = []
        self.lock = threading.Lock()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                with outer.lock:
                    plan = outer.plans.get(self.path, [])
                    code = plan.pop(0) if len(plan) > 1 else (plan[0] if plan else 200)
                    outer.seen.append((time.time(), self.path, self.headers["webhook-id"], body, code,
                                       verified(self.headers, body), self.headers))
                self.send_response(code)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, path, *codes):
        """The URL of `path`. It answers with these codes in turn and repeats the last one."""
        self.plans[path] = list(codes) or [200]
        return self.origin + path

    def calls(self, webhook_id):
        with self.lock:
            return [call for call in self.seen if call[2] == webhook_id]


def verified(headers, body, secret=ENV["SIGNING_SECRETS"].split()[0]):
    """Whether one of the signatures is valid for this secret (Standard Webhooks 1.0.0)."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    fresh = abs(time.time() - int(headers["webhook-timestamp"])) < 300
    given = headers["webhook-signature"].split(" ")
    return fresh and any(hmac.compare_digest(expected, one) for one in given)


def call(method, path, body=None):
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(ENV["API_URL"] + path, data=data, method=method,
                                     headers={"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"null")


def wait_until(webhook_id, status):
    return wait_at(f"/webhook-statuses/{webhook_id}", status)


def wait_at(path, status):
    """What this path answers, as soon as it has this status."""
    until = time.time() + PATIENCE_S
    record = {}
    while time.time() < until:
        code, record = call("GET", path)
        if code == 200 and record["status"] == status:
            return record
        time.sleep(0.1)
    return record


class Demo:
    def __init__(self):
        self.receiver = Receiver()
        self.origins = {self.receiver.origin}
        self.faults = 0

    def title(self, text):
        print(f"\n{BOLD}{text}{PLAIN}", flush=True)

    def line(self, at, text):
        print(f"  {DIM}{at - STARTED:6.2f} s{PLAIN}  {text}", flush=True)

    def check(self, what, found, wanted):
        good = found == wanted
        self.faults += not good
        mark = f"{GREEN}ok{PLAIN}" if good else f"{RED}FAILED{PLAIN}"
        print(f"            {mark}  {what}" + ("" if good else f": found {found!r}, expected {wanted!r}"), flush=True)

    def send(self, body):
        began = time.time()
        code, answer = call("POST", "/webhooks", body)
        webhook_id = (answer or {}).get("webhook_id", "")
        self.line(began, f"POST /webhooks → {code} {answer.get('title') or answer['status']}"
                         + (f", id {webhook_id}" if webhook_id else ""))
        return code, answer, webhook_id

    def timeline(self, webhook_id, record):
        for n, (at, path, _, _, code, good, _) in enumerate(self.receiver.calls(webhook_id), 1):
            self.line(at, f"call {n}: POST {path}, signature {'valid' if good else 'INVALID'} → {code}")
        why = f": {record['error']}" if record.get("error") else ""
        self.line(time.time(), f"status {record.get('status')}, attempts {record.get('attempts')}, "
                               f"kept for {record.get('ttl_seconds')} s{why}")

    def follow(self, body, status, calls):
        code, _, webhook_id = self.send(body)
        record = wait_until(webhook_id, status)
        self.timeline(webhook_id, record)
        self.check("the API answers 202", code, 202)
        self.check(f"the final status is {status}", record.get("status"), status)
        got = self.receiver.calls(webhook_id)
        self.check(f"{calls} call(s) with a valid signature", [call[5] for call in got], [True] * calls)
        return webhook_id, record, got

    def delivered(self):
        self.title("1. A webhook is delivered, byte for byte")
        payload = '{ "b": 1.50,  "a" : 12345678901234567890123, "é": "\\ud83d\\ude00" }'
        url = self.receiver.url("/orders")
        body = f'{{"webhook_url": "{url}", "payload": {payload}, "event_type": "order.paid"}}'.encode()
        _, record, got = self.follow(body, "delivered", 1)
        self.check("the payload is unchanged, byte for byte", got[0][3] if got else None, payload.encode())
        self.check("the record is kept for at most 30 minutes", record.get("ttl_seconds", 9999) <= 1800, True)

    def retried(self):
        self.title("2. A receiver answers 500 twice, then 200")
        url = self.receiver.url("/flaky", 500, 500, 200)
        _, record, _ = self.follow({"webhook_url": url, "payload": {"n": 2}}, "delivered", 3)
        self.check("the record counts 3 attempts", record.get("attempts"), 3)

    def dead(self):
        self.title("3. A receiver answers 404: the webhook becomes a dead letter and is redriven later")
        url = self.receiver.url("/nowhere", 404)
        webhook_id, record, _ = self.follow({"webhook_url": url, "payload": {"n": 3}}, "failed", 1)
        self.check("the error class is client_error", record.get("error_class"), "client_error")
        self.check("the record is kept for at most 7 days", record.get("ttl_seconds", 10**9) <= 604_800, True)
        until = time.time() + PATIENCE_S
        code, letter = 0, {}
        while code != 200 and time.time() < until:
            time.sleep(0.1)
            code, letter = call("GET", f"/dead-letters/{webhook_id}")
        self.line(time.time(), f"dead letter: reason {letter.get('reason')}, payload {letter.get('payload')}")
        self.receiver.url("/nowhere", 200)
        code, _ = call("POST", f"/dead-letters/{webhook_id}/redrive")
        self.line(time.time(), f"POST /dead-letters/{webhook_id}/redrive → {code}")
        record = wait_until(webhook_id, "delivered")
        self.timeline(webhook_id, record)
        self.check("the redrive delivers it under the same id", record.get("status"), "delivered")

    def batch(self):
        self.title("4. A batch of 20 webhooks")
        url = self.receiver.url("/batch")
        began = time.time()
        code, answer = call("POST", "/webhooks/batch",
                            {"webhooks": [{"webhook_url": url, "payload": n} for n in range(20)]})
        self.line(began, f"POST /webhooks/batch → {code}, accepted {answer.get('accepted')}")
        ids = [result["webhook_id"] for result in answer.get("results", [])]
        ends = [wait_until(webhook_id, "delivered").get("status") for webhook_id in ids]
        bodies = sorted(int(call[3]) for webhook_id in ids for call in self.receiver.calls(webhook_id))
        self.line(time.time(), f"{ends.count('delivered')} delivered")
        self.check("each webhook is delivered exactly once", (ends, bodies), (["delivered"] * 20, list(range(20))))

    def repeated(self):
        self.title("5. The same reference_id is sent again, then with another body")
        body = {"webhook_url": self.receiver.url("/once"), "payload": {"n": 5}, "reference_id": f"order-{RUN}"}
        webhook_id, _, _ = self.follow(body, "delivered", 1)
        code, answer, _ = self.send(body)
        self.check("the same body is a duplicate: 202", (code, answer.get("duplicate")), (202, True))
        code, _, _ = self.send({**body, "payload": {"n": 6}})
        self.check("another body is a conflict: 409", code, 409)
        self.check("the receiver got 1 call", len(self.receiver.calls(webhook_id)), 1)

    def broken(self):
        self.title("6. A receiver is down: its circuit breaker opens and closes again")
        other = Receiver()
        self.origins.add(other.origin)
        url = other.url("/down", 503)
        destination = url.removesuffix("/down")
        began = time.time()
        code, answer = call("POST", "/webhooks/batch",
                            {"webhooks": [{"webhook_url": url, "payload": n} for n in range(6)]})
        ids = [result["webhook_id"] for result in answer.get("results", [])]
        self.line(began, f"POST /webhooks/batch → {code}, accepted {answer.get('accepted')}; every call gets 503")
        seen = []

        def state():
            _, answer = call("GET", "/circuit-breakers")
            found = [one["state"] for one in answer["circuit_breakers"] if one["destination"] == destination]
            if found and found[0] not in seen[-1:]:
                seen.append(found[0])
                self.line(time.time(), f"circuit breaker {found[0]}, calls so far {len(other.seen)}")
            return found[0] if found else None

        def until(wanted):
            end = time.time() + PATIENCE_S
            while state() != wanted and time.time() < end:
                time.sleep(0.05)

        until("open")
        calls = len(other.seen)
        until("half_open")
        other.url("/down", 200)
        self.line(time.time(), "the receiver works again")
        until("closed")
        ends = [wait_until(webhook_id, "delivered").get("status") for webhook_id in ids]
        self.line(time.time(), f"{ends.count('delivered')} delivered, {len(other.seen)} calls in total")
        self.check("5 failures open the breaker", calls >= 5, True)
        self.check("the states are open, half-open, closed", [one for one in seen if one != "closed"][:2] + seen[-1:],
                   ["open", "half_open", "closed"])
        self.check("all 6 webhooks are delivered", ends, ["delivered"] * 6)

    def refused(self):
        self.title("7. A request has three faults")
        code, answer, _ = self.send({"webhook_url": "ftp://x", "reference_id": "a b", "colour": "red", "payload": 1})
        for error in answer.get("errors", []):
            self.line(time.time(), f"{error['pointer']}: {error['message']}")
        self.check("the API answers 422 and names three faults", (code, len(answer.get("errors", []))), (422, 3))

    def registered(self):
        self.title("8. An endpoint is registered: it has a secret of its own, which is rotated")
        url = self.receiver.url("/endpoint")
        began = time.time()
        code, made = call("POST", f"/tenants/demo-{RUN}/endpoints", {"url": url})
        self.line(began, f"POST /tenants/demo-{RUN}/endpoints → {code} {made.get('title') or made.get('id')}")
        self.check("the API answers 201", code, 201)
        if code != 201:
            return
        path, first = f"/tenants/demo-{RUN}/endpoints/{made['id']}", made["secret"]
        arrival, record = self.tested(path)
        self.check("the call is signed with the secret of the endpoint", self.signers(arrival, [first]), (1, [True]))
        self.check("the call is not signed with the secrets of the stack", arrival and arrival[5], False)
        attempts = [one.get("status_code") for one in record.get("attempts", [])]
        self.check("the delivery shows its one attempt", attempts, [200])

        began = time.time()
        code, rotated = call("POST", f"{path}/rotate-secret", {})
        self.line(began, f"POST …/rotate-secret → {code}; the old secret signs as well for a day")
        self.check("the API answers 200", code, 200)
        second = rotated.get("secret", "whsec_")
        self.check("the secret is a new one", second != first, True)
        arrival, _ = self.tested(path)
        signers = self.signers(arrival, [second, first])
        self.check("the call has two signatures, one with each secret", signers, (2, [True, True]))

    def tested(self, path):
        """The call and the record of a test delivery."""
        began = time.time()
        code, answer = call("POST", f"{path}/test", {"event_type": "order.paid", "payload": {"n": 8}})
        self.line(began, f"POST …/test → {code} {answer.get('title') or answer.get('delivery_id')}")
        if code != 202:
            self.check("the API answers 202", code, 202)
            return None, {}
        record = wait_at(answer["status_url"], "delivered")
        calls = self.receiver.calls(answer["webhook_id"])
        for at, to, _, _, answered, _, headers in calls:
            self.line(at, f"call: POST {to}, {len(headers['webhook-signature'].split())} signature(s) → {answered}")
        self.line(time.time(), f"status {record.get('status')}")
        return (calls[0] if calls else None), record

    @staticmethod
    def signers(arrival, secrets):
        """How many signatures a call has, and for which of these secrets one is valid."""
        if not arrival:
            return 0, []
        body, headers = arrival[3], arrival[6]
        return len(headers["webhook-signature"].split()), [verified(headers, body, secret) for secret in secrets]

    def fanned_out(self):
        self.title("9. One event goes to every endpoint that wants it")
        tenant = f"/tenants/shop-{RUN}"
        mail = self.endpoint(tenant, {"url": self.receiver.url("/mail")})
        self.endpoint(tenant, {"url": self.receiver.url("/audit"),
                               "filter": {"payload": {"amount": [{"numeric": [">", 100]}]}}})
        books = self.endpoint(tenant, {"url": self.receiver.url("/boks", 404), "event_types": ["order.paid"],
                                       "retry_schedule_s": [5] * 12})
        if not mail or not books:
            return
        code, event = self.emit(tenant, "order.paid", {"amount": 42})
        self.check("the API answers 202", code, 202)
        record = wait_at(event["status_url"], "fanned_out")
        self.line(time.time(), f"event {record.get('status')}: {record.get('matched')} of 3 endpoints want it")
        self.check("the filter of /audit keeps it out", record.get("matched"), 2)
        wrong = self.paths(event, 2)
        self.check("/mail has it, /boks does not exist", sorted(wrong), [("/boks", 404), ("/mail", 200)])
        code, _ = call("PATCH", f"{tenant}/endpoints/{books['id']}", {"url": self.receiver.url("/books")})
        self.line(time.time(), f"PATCH …/endpoints/{books['id']}: /boks becomes /books while its delivery waits → {code}")

        sent = [self.emit(tenant, "order.shipped", {"n": n}, quiet=True)[1] for n in range(5)]
        began = time.time()
        code, rotated = call("POST", f"{tenant}/endpoints/{mail['id']}/rotate-secret", {})
        self.line(began, f"POST …/rotate-secret → {code}, in the middle of ten events for /mail")
        sent += [self.emit(tenant, "order.shipped", {"n": n}, quiet=True)[1] for n in range(5, 10)]
        secrets = [mail["secret"], rotated.get("secret", "whsec_")]
        calls = [one for event in sent for one in self.arrivals(event, 1)]
        good = [any(self.signers(one, secrets)[1]) for one in calls]
        self.line(time.time(), f"{len(calls)} calls, each signed with the old secret, the new one, or both")
        self.check("all ten arrive with a signature that the receiver knows", good, [True] * 10)

        record = wait_at(f"{event['status_url']}/deliveries/{books['id']}", "delivered")
        codes = [one.get("status_code") for one in record.get("attempts", [])]
        self.line(time.time(), f"the delivery that waited: {' '.join(str(code) for code in codes)}")
        self.check("it is delivered to the mended URL", (record.get("status"), codes[-1:]), ("delivered", [200]))
        paths = {path for path, code in self.paths(event, 3) if code == 200}
        self.check("/audit got nothing", paths, {"/mail", "/books"})

    def remembered(self):
        self.title("10. What happened to it: history, a resend, a replay, and an erasure")
        tenant = f"/tenants/past-{RUN}"
        first = self.endpoint(tenant, {"url": self.receiver.url("/first")})
        if not first:
            return
        events = [self.emit(tenant, "order.paid", {"n": n}, quiet=True)[1] for n in range(5)]
        for event in events:
            wait_at(f"{event['status_url']}/deliveries/{first['id']}", "delivered")
        began = time.time()
        listed = self.listed(f"{tenant}/endpoints/{first['id']}/deliveries", "deliveries", 5)
        self.line(began, f"GET …/endpoints/{first['id']}/deliveries: {len(listed)} deliveries")
        self.check("history has all five, delivered", [one.get("result") for one in listed], ["delivered"] * 5)
        answered = [attempt.get("status_code") for one in listed for attempt in one.get("attempts", [])]
        self.check("each with its attempt", answered, [200] * 5)

        began = time.time()
        code, resent = call("POST", f"{events[0]['status_url']}/deliveries/{first['id']}/resend", {})
        self.line(began, f"POST …/resend → {code} {resent.get('title') or resent.get('delivery_id')}")
        calls = self.arrivals(events[0], 2)
        self.check("it arrives again, under the same webhook-id", (code, len(calls)), (202, 2))

        later = self.endpoint(tenant, {"url": self.receiver.url("/later")})
        if not later:
            return
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(STARTED - 60))
        for dry in (True, False):
            began = time.time()
            code, replay = call("POST", f"{tenant}/endpoints/{later['id']}/replays",
                                {"what": "missing", "since": since, "per_second": 100, "dry_run": dry})
            what = "what a replay would send to an endpoint made later" if dry else "the replay itself"
            self.line(began, f"POST …/replays → {code}: {what}")
            done = self.replayed(f"{tenant}/replays/{replay.get('replay_id')}")
            found = (done.get("state"), done.get("matched"), done.get("queued"))
            self.check("it matches the five events", found, ("done", 5, 0 if dry else 5))
        got = [one[1] for event in events for one in self.arrivals(event, 3 if event is events[0] else 2)]
        self.check("/later has all five now", got.count("/later"), 5)

        began = time.time()
        code, _ = call("DELETE", f"{events[1]['status_url']}/payload")
        self.line(began, f"DELETE …/payload → {code}")
        until = time.time() + PATIENCE_S
        shown = {}
        while time.time() < until and not shown.get("erased_at"):
            time.sleep(0.2)
            shown = call("GET", events[1]["status_url"])[1]
        self.check("the payload is gone", (bool(shown.get("erased_at")), "payload" in shown), (True, False))

    def listed(self, path, name, count):
        """What a list has, page by page, as soon as it has so many."""
        until = time.time() + PATIENCE_S
        while True:
            found, cursor = [], ""
            while True:
                code, page = call("GET", f"{path}?limit=100{cursor}")
                found += page.get(name, [])
                if code != 200 or not page.get("next_cursor"):
                    break
                cursor = f"&cursor={page['next_cursor']}"
            if len(found) >= count or time.time() > until:
                return found
            time.sleep(0.2)

    def replayed(self, path):
        """The replay when it is over."""
        until = time.time() + PATIENCE_S
        replay = {}
        while time.time() < until and replay.get("state") in (None, "running"):
            time.sleep(0.2)
            replay = call("GET", path)[1]
        return replay

    def endpoint(self, tenant, body):
        """Registers an endpoint; None if that fails."""
        began = time.time()
        code, made = call("POST", f"{tenant}/endpoints", body)
        path = body["url"].rsplit("/", 1)[1]
        self.line(began, f"POST {tenant}/endpoints → {code} {made.get('title') or made.get('id')} for /{path}")
        self.check("the API answers 201", code, 201)
        return made if code == 201 else None

    def emit(self, tenant, event_type, payload, quiet=False):
        began = time.time()
        code, answer = call("POST", f"{tenant}/events", {"event_type": event_type, "payload": payload})
        if not quiet or code != 202:
            self.line(began, f"POST {tenant}/events → {code} {answer.get('title') or answer.get('event_id')}")
        return code, answer

    def arrivals(self, event, count):
        """The calls of an event, as soon as there are so many."""
        until = time.time() + PATIENCE_S
        while len(self.receiver.calls(event.get("webhook_id"))) < count and time.time() < until:
            time.sleep(0.05)
        return self.receiver.calls(event.get("webhook_id"))

    def paths(self, event, count):
        """Where an event went, and what was answered."""
        return [(one[1], one[4]) for one in self.arrivals(event, count)]

    def healthy(self):
        self.title("11. Health and statuses, as the person on call sees them")
        code, answer = call("GET", "/health")
        parts = answer["components"]
        self.line(time.time(), f"GET /health → {code} {answer['status']}: "
                               + ", ".join(f"{name} {part['status']}" for name, part in parts.items()))
        _, listed = call("GET", "/circuit-breakers")
        open_ones = {one["destination"] for one in listed["circuit_breakers"] if one["state"] != "closed"}
        # A receiver that was tried before, and does not answer, is no fault of the stack.
        foreign = open_ones - self.origins
        if foreign:
            self.line(time.time(), f"circuit breakers of receivers that are not this demo's: {', '.join(sorted(foreign))}")
        troubled = {name for name, part in parts.items() if part["status"] != "up" and not (foreign and name == "circuit_breakers")}
        self.check("every component is up", (code, troubled, open_ones & self.origins), (200, set(), set()))
        code, answer = call("GET", "/webhook-statuses?status=delivered&limit=3")
        self.line(time.time(), f"GET /webhook-statuses → {code}, counts {answer['counts']}")
        newest = [one["updated_at"] for one in answer["webhooks"]]
        self.check("the most recently changed webhook is first", (len(newest), newest == sorted(newest, reverse=True)), (3, True))


def steadhook(*arguments):
    """What the command line prints."""
    command = [ROOT / "target" / "debug" / "steadhook", *arguments]
    done = subprocess.run(command, env={**os.environ, **ENV}, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"demo.py: steadhook {' '.join(arguments)} failed: {done.stderr}")
    return done.stdout.strip()


def main():
    demo = Demo()
    for chapter in (demo.delivered, demo.retried, demo.dead, demo.batch, demo.repeated, demo.broken, demo.refused,
                    demo.registered, demo.fanned_out, demo.remembered, demo.healthy):
        chapter()
    print()
    if demo.faults:
        sys.exit(f"{demo.faults} check(s) failed")
    print(f"{GREEN}All checks passed.{PLAIN} The stack is still running. To send a webhook yourself:\n"
          "  . .local/stack.env                    # after that, `steadhook` is a command\n"
          "  steadhook listen --port 9000 &        # a receiver, which shows what arrives\n"
          "  steadhook send --to http://127.0.0.1:9000/orders '{\"order\": 17}' --wait\n"
          f"\nTo see what happened, open the console. The link works once and within a minute; `steadhook console` makes another one:\n"
          f"  {BOLD}{steadhook('console')}{PLAIN}\n\n"
          "To stop the stack, run `make down`.")


if __name__ == "__main__":
    main()
