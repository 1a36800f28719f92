"""A program of another language that reads and writes CloudEvents over a broker with stock clients.

    foreign.py write BROKER URL TOPIC MODE          writes the structured events on standard input, one JSON object a line
    foreign.py read BROKER URL TOPIC MODE COUNT     says "ready", then prints COUNT events as structured JSON, one a line

BROKER is redis, kafka or rabbitmq; MODE is binary or structured, and what is read must have it. Written are also, on
kafka, `odd`: binary with headers that are null or repeated; on rabbitmq, `cloudEvents_` and `cloudEvents:`: binary with
these prefixes, and with values that are numbers. It knows of trunkline only what its documentation
says about physical names: the Kafka topic and the Redis streams `<topic>`, `<topic>..1` and so on, and the topic exchange
`trunkline` with the topic as routing key.
"""

import sys
from urllib.parse import urlsplit

from cloudevents.core.bindings import kafka as kafka_binding
from cloudevents.core.bindings import rabbitmq as rabbitmq_binding
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

FORMAT = JSONFormat()
PARTITIONS = 8
EXCHANGE = "trunkline"


def show(event):
    print(FORMAT.write(event).decode("utf-8"), flush=True)


def expect(mode, content_type):
    is_structured = (content_type or "").startswith("application/cloudevents")
    if is_structured != (mode == "structured"):
        sys.exit(f"expected {mode} mode, and the media type is {content_type}")


def ready():
    print("ready", flush=True)


def redis_client(url):
    import redis

    return redis.Redis.from_url(url)


def redis_write(url, topic, mode, events):
    client = redis_client(url)
    for event in events:
        if mode == "structured":
            client.xadd(topic, {"data": FORMAT.write(event)})
            continue
        # The SDK has no binding for Redis; the fields are those of its Kafka binding.
        message = kafka_binding.to_binary(event, FORMAT)
        client.xadd(topic, {**message.headers, "data": message.value})


def redis_read(url, topic, mode, count):
    client = redis_client(url)
    names = [topic] + [f"{topic}..{index}" for index in range(1, PARTITIONS)]
    cursors = dict.fromkeys(names, "0")
    ready()
    while count > 0:
        for stream, entries in client.xread(cursors, block=500) or []:
            for entry_id, fields in entries:
                cursors[stream.decode()] = entry_id
                data = fields.pop(b"data", b"")
                headers = {name.decode(): value for name, value in fields.items()}
                expect(mode, headers.get("content-type", b"").decode())
                message = kafka_binding.KafkaMessage(headers=headers, key=None, value=data)
                show(kafka_binding.from_kafka(message, FORMAT))
                count -= 1


def kafka_write(url, topic, mode, events):
    from confluent_kafka import Producer

    # The topic is there: whoever subscribes to one by its name makes it.
    servers = {"bootstrap.servers": urlsplit(url).netloc}
    producer = Producer({**servers, "partitioner": "murmur2_random"})
    convert = kafka_binding.to_structured if mode == "structured" else kafka_binding.to_binary
    for event in events:
        message = convert(event, FORMAT)
        headers = list(message.headers.items())
        if mode == "odd":
            # Of a header that is repeated the last counts, and one without a value says nothing.
            first = convert(events[0], FORMAT).headers
            repeated = [(name, first[name]) for name, _ in headers if name in first]
            headers = repeated + [("ce_nothing", None), ("odd", None)] + headers
        producer.produce(topic, value=message.value, key=message.key, headers=headers)
    left = producer.flush(30)
    if left:
        sys.exit(f"{left} events were not delivered")


def kafka_read(url, topic, mode, count):
    from confluent_kafka import Consumer

    consumer = Consumer(
        {
            "bootstrap.servers": urlsplit(url).netloc,
            "group.id": f"foreign-{topic}",
            "auto.offset.reset": "earliest",
            "topic.metadata.refresh.interval.ms": 500,
        }
    )
    consumer.subscribe([topic])
    ready()
    while count > 0:
        record = consumer.poll(0.5)
        if record is None or record.error():
            continue  # The topic may not be there yet; the test has its own time limit.
        headers = dict(record.headers() or [])
        expect(mode, headers.get("content-type", b"").decode())
        message = kafka_binding.KafkaMessage(headers=headers, key=record.key(), value=record.value() or b"")
        show(kafka_binding.from_kafka(message, FORMAT))
        count -= 1
    consumer.close()


def rabbitmq_channel(url):
    import pika

    return pika.BlockingConnection(pika.URLParameters(url)).channel()


def numbers(event):
    return [(name, value) for name, value in event.get_attributes().items() if isinstance(value, int)]


def rabbitmq_write(url, topic, mode, events):
    import pika

    channel = rabbitmq_channel(url)
    channel.confirm_delivery()
    convert = rabbitmq_binding.to_structured if mode == "structured" else rabbitmq_binding.to_binary
    for event in events:
        message = convert(event, FORMAT)
        headers = message.headers
        if mode.startswith("cloudEvents"):
            # Values arrive with their types: JSON has numbers, and so has AMQP.
            typed = {**headers, **{f"ce-{name}": value for name, value in numbers(event)}}
            headers = {mode + name.removeprefix("ce-"): value for name, value in typed.items()}
        properties = pika.BasicProperties(
            headers=headers, content_type=message.content_type, delivery_mode=2
        )
        channel.basic_publish(EXCHANGE, topic, message.body, properties, mandatory=True)


def rabbitmq_read(url, topic, mode, count):
    channel = rabbitmq_channel(url)
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, EXCHANGE, topic)
    ready()
    for method, properties, body in channel.consume(queue):
        expect(mode, properties.content_type)
        headers = {name: str(value) for name, value in (properties.headers or {}).items()}
        message = rabbitmq_binding.RabbitMQMessage(
            headers=headers, content_type=properties.content_type, body=body
        )
        show(rabbitmq_binding.from_rabbitmq(message, FORMAT))
        channel.basic_ack(method.delivery_tag)
        count -= 1
        if count == 0:
            return


WRITERS = {"redis": redis_write, "kafka": kafka_write, "rabbitmq": rabbitmq_write}
READERS = {"redis": redis_read, "kafka": kafka_read, "rabbitmq": rabbitmq_read}


def main():
    verb, broker, url, topic, mode, *count = sys.argv[1:]
    if verb == "write":
        events = [FORMAT.read(CloudEvent, line) for line in sys.stdin if line.strip()]
        WRITERS[broker](url, topic, mode, events)
    else:
        READERS[broker](url, topic, mode, int(*count))


main()
