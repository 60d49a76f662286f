"""A gateway in Python: follows Tallyman's decisions and says what may go on. Most gateways are not written in Rust.

    pip install confluent-kafka fastavro
    python examples/gateway.py --brokers 127.0.0.1:9092 --check '{"org": "acme", "user": "ada"}'

It reads the decisions to their end, follows for --follow seconds, and writes one JSON line for each --check. JSON and Avro
single-object encoding need the schemas of this project (--schemas), Confluent framing needs --registry. What it must never
do: block for what it cannot read. The rules are those of the README, "How gateways use decisions".
"""

import argparse
import io
import json
import pathlib
import struct
import time
import urllib.parse
import urllib.request

import confluent_kafka
import fastavro

# Of scopes that are equally blocked and have equally much left, the first of these is told; the org last.
TOLD_FIRST = ["user", "project", "workspace", "department", "operation_detail", "operation", "model", "provider",
              "product", "category", "tier", "workspace_kind"]


class Decoder:
    """A value is told by its first bytes: `{`, C3 01, or 00."""

    def __init__(self, schemas, registry):
        self.registry = registry
        self.by_fingerprint, self.by_id = {}, {}
        for name in ("LimitDecision", "Heartbeat"):
            schema = json.loads((pathlib.Path(schemas) / f"{name}.avsc").read_text())
            parsed = fastavro.parse_schema(schema)
            canonical = fastavro.schema.to_parsing_canonical_form(schema)
            fingerprint = fastavro.schema.fingerprint(canonical, "CRC-64-AVRO")
            self.by_fingerprint[bytes.fromhex(fingerprint)] = parsed

    def read(self, value):
        if value[:2] == b"\xc3\x01":
            return fastavro.schemaless_reader(io.BytesIO(value[10:]), self.by_fingerprint[value[2:10]])
        if value[:1] == b"\x00":
            (number,) = struct.unpack(">I", value[1:5])
            return fastavro.schemaless_reader(io.BytesIO(value[5:]), self.schema(number))
        return json.loads(value)

    def schema(self, number):
        if number not in self.by_id:
            with urllib.request.urlopen(f"{self.registry}/schemas/ids/{number}", timeout=10) as answer:
                self.by_id[number] = fastavro.parse_schema(json.loads(json.load(answer)["schema"]))
        return self.by_id[number]


class Table:
    """The last decision of each scope, by org, dimension, value and budget."""

    def __init__(self):
        self.scopes, self.heartbeats = {}, {}

    def apply(self, key, value, decoder):
        if key.startswith("!heartbeat|"):
            self.heartbeats[int(key.split("|")[1])] = decoder.read(value)["at"]
            return
        parts = [urllib.parse.unquote(part) for part in key.split("|")]
        org, dimension, of_value, budget = (parts + [None] * 3)[:4]
        place = self.scopes.setdefault(org, {}).setdefault((dimension, of_value), {})
        if value is None:
            place.pop(budget, None)
            return
        decision = decoder.read(value)
        if budget not in place or place[budget]["version"] <= decision["version"]:
            place[budget] = decision

    def matching(self, org, dimensions):
        scopes = self.scopes.get(org, {})
        for name in TOLD_FIRST:
            if name in dimensions:
                own, each = scopes.get((name, dimensions[name]), {}), scopes.get((name, ""), {})
                yield from own.values()
                # A budget for exactly this value overrides those for each; one that is over says so without an allowance.
                if all(budget in each for budget in own if own[budget]["allowance"] is not None):
                    yield from (each[budget] for budget in each if budget not in own)
        yield from scopes.get((None, None), {}).values()
        yield from scopes.get(("", ""), {}).values()

    def check(self, org, **dimensions):
        """The decision to tell, or None for an org without one: `gate.unknown`, allow."""
        def rank(decision):
            remaining = decision["remaining"]
            return decision["action"] != "BLOCK", float("inf") if remaining is None else float(remaining)
        return min(self.matching(org, dimensions), key=rank, default=None)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--brokers", required=True)
    args.add_argument("--topic", default="credit.decisions")
    args.add_argument("--schemas", default=pathlib.Path(__file__).parent.parent / "schemas")
    args.add_argument("--registry", help="http://host:8081, for framed decisions")
    args.add_argument("--follow", type=float, default=0, help="seconds to go on after the end")
    args.add_argument("--check", action="append", default=[], type=json.loads)
    args = args.parse_args()

    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": args.brokers, "group.id": "gateway", "enable.auto.commit": False,
        "isolation.level": "read_committed", "enable.partition.eof": True,
    })
    partitions = consumer.list_topics(args.topic, timeout=10).topics[args.topic].partitions
    consumer.assign([confluent_kafka.TopicPartition(args.topic, number, confluent_kafka.OFFSET_BEGINNING)
                     for number in partitions])
    table, decoder, unread, until = Table(), Decoder(args.schemas, args.registry), set(partitions), None
    while until is None or time.monotonic() < until:
        message = consumer.poll(0.1)
        if message is None:
            continue
        if message.error() is None:
            table.apply(message.key().decode(), message.value(), decoder)
        elif message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF:
            unread.discard(message.partition())
            if not unread and until is None:
                until = time.monotonic() + args.follow
        elif message.error().fatal():
            raise confluent_kafka.KafkaException(message.error())
    for request in args.check:
        told = table.check(**request) or {"action": "ALLOW", "reason": "UNKNOWN"}
        told = {name: told.get(name) for name in
                ("action", "reason", "dimension", "value", "budget_id", "version", "remaining")}
        print(json.dumps(told, default=str))
    print(json.dumps({"scopes": sum(len(place) for org in table.scopes.values() for place in org.values()),
                      "heartbeats": len(table.heartbeats)}))
    consumer.close()


if __name__ == "__main__":
    main()
