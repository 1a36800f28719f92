//! Brokers with a server: their keys, and what is wrong with them.

use std::time::Duration;

use trunkline::cloudevents::ContentMode;
use trunkline::config::{
    BackendConfig, BrokerConfig, Config, Declare, ExchangeType, PartitionStrategy, PropertyValue,
    QueueType,
};

use super::{config, problems, problems_with};

fn backend(text: &str) -> BackendConfig {
    match config(text).broker {
        BrokerConfig::Single(backend) => backend,
        other => panic!("{other:?}"),
    }
}

#[test]
fn redis_takes_its_keys() {
    let BackendConfig::Redis(redis) = backend(
        "[broker]\ntype = \"redis\"\nurl = \"rediss://u:p@h:6380/2\"\nprefix = \"shop\"\n\
         connect_timeout_ms = 1\nlease_ttl_ms = 2\ndiscovery_interval_ms = 3\n\
         wait_replicas = 1\nwait_timeout_ms = 4\nmax_stream_length = 5\n\
         response_timeout_ms = 6\nsubscriber_ttl_ms = 7\nca_file = \"ca.pem\"\n",
    ) else {
        panic!("no redis")
    };
    assert_eq!(redis.server.url.expose(), "rediss://u:p@h:6380/2");
    assert_eq!(redis.server.prefix.as_deref(), Some("shop"));
    let millis = |time: Option<Duration>| time.unwrap().as_millis();
    assert_eq!(millis(redis.server.connect_timeout), 1);
    assert_eq!((millis(redis.lease_ttl), millis(redis.discovery_interval)), (2, 3));
    assert_eq!((redis.wait_replicas, redis.wait_timeout.as_millis()), (Some(1), 4));
    assert_eq!(redis.max_stream_length, Some(5));
    assert_eq!((millis(redis.response_timeout), millis(redis.subscriber_ttl)), (6, 7));
    assert_eq!(redis.ca_file.as_deref(), Some(std::path::Path::new("ca.pem")));
}

#[test]
fn redis_may_stand_behind_sentinels_or_in_a_cluster() {
    for (url, shown) in [
        ("redis+sentinel://u:hare@h1,h2:26379/main/2", "redis+sentinel://u:***@h1,h2:26379/main/2"),
        ("rediss+sentinel://:hare@h/main", "rediss+sentinel://:***@h/main"),
        ("redis+cluster://u:hare@h1:7000,h2:7000", "redis+cluster://u:***@h1:7000,h2:7000"),
        ("rediss+cluster://h1,h2", "rediss+cluster://h1,h2"),
    ] {
        let text = format!("[broker]\ntype = \"redis\"\nurl = \"{url}\"\n");
        let BackendConfig::Redis(redis) = backend(&text) else { panic!("no redis") };
        assert_eq!(redis.server.url.expose(), url);
        assert!(config(&text).describe().contains(shown), "{}", config(&text).describe());
    }
    let found = problems("[broker]\ntype = \"redis\"\nurl = \"redis-sentinel://h/main\"\n");
    assert!(found[0].contains("redis+sentinel") && found[0].contains("redis+cluster"), "{found:?}");
}

#[test]
fn kafka_takes_its_keys_and_every_property_of_its_client() {
    let BackendConfig::Kafka(kafka) = backend(
        "[broker]\ntype = \"kafka\"\nurl = \"kafka://h1:9092,h2:9092\"\nreplication = 3\n\
         create_topics = false\ndiscovery_interval_ms = 1\nsession_timeout_ms = 2\n\
         heartbeat_interval_ms = 3\ncommit_interval_ms = 4\ndrain_timeout_ms = 5\n\
         max_unconfirmed = 6\npartition_strategy = \"round_robin\"\ntopic_properties = { \"retention.ms\" = 7 }\n\
         [broker.properties]\n\"security.protocol\" = \"SASL_SSL\"\n\
         socket.keepalive.enable = true\nsession.timeout.ms = 6000\n",
    ) else {
        panic!("no kafka")
    };
    assert_eq!((kafka.replication, kafka.create_topics), (Some(3), false));
    let times = [
        kafka.discovery_interval,
        kafka.session_timeout,
        kafka.heartbeat_interval,
        kafka.commit_interval,
        kafka.drain_timeout,
    ];
    assert_eq!(times.map(|time| time.unwrap().as_millis()), [1, 2, 3, 4, 5]);
    assert_eq!(kafka.max_unconfirmed, Some(6));
    assert_eq!(kafka.partition_strategy, PartitionStrategy::RoundRobin);
    let kept = kafka.topic_properties.iter().next().unwrap();
    assert_eq!(kept, ("retention.ms", &PropertyValue::Integer(7)));
    let properties: Vec<_> = kafka.properties.iter().collect();
    let expected = [
        ("security.protocol", &PropertyValue::Text("SASL_SSL".to_owned())),
        ("socket.keepalive.enable", &PropertyValue::Boolean(true)),
        ("session.timeout.ms", &PropertyValue::Integer(6000)),
    ];
    assert_eq!(properties, expected);
}

#[test]
fn a_property_comes_from_the_environment_with_underscores_for_its_dots() {
    let text = "[broker]\ntype = \"kafka\"\nurl = \"kafka://h\"\n\
                properties = { \"sasl.username\" = \"file\", acks.x = 1 }\n";
    let variables = [
        ("TRUNKLINE__BROKER__PROPERTIES__SASL_USERNAME", "env"),
        ("TRUNKLINE__BROKER__PROPERTIES__SASL_PASSWORD", "hare"),
    ];
    let config = Config::from_sources(text, "app.toml", variables).unwrap();
    let BackendConfig::Kafka(kafka) = config.broker.outer() else { panic!("no kafka") };
    let text = |value: &PropertyValue| value.to_string();
    let properties: Vec<_> = kafka.properties.iter().map(|(k, v)| (k, text(v))).collect();
    let expected = [("sasl.username", "env"), ("acks.x", "1"), ("sasl.password", "hare")];
    assert_eq!(properties, expected.map(|(name, value)| (name, value.to_owned())));
    for shown in [format!("{config:?}"), config.describe()] {
        assert!(!shown.contains("hare") && shown.contains("***"), "{shown}");
    }
}

#[test]
fn rabbitmq_takes_its_keys() {
    let BackendConfig::RabbitMq(rabbitmq) = backend(
        "[broker]\ntype = \"rabbitmq\"\nurl = \"amqps://h/%2f\"\nexchange = \"events\"\n\
         exchange_type = \"fanout\"\nqueue_type = \"classic\"\ndeclare = false\n\
         queue_arguments = { x-max-length = 10, x-overflow = \"reject-publish\" }\n\
         group_queues = { billing = [\"old-a\", \"old-b\"] }\nheartbeat_ms = 5000\n\
         confirm_channels = 1\nconfirm_window = 2\nca_file = \"ca.pem\"\n",
    ) else {
        panic!("no rabbitmq")
    };
    assert_eq!(rabbitmq.exchange.as_deref(), Some("events"));
    assert_eq!(rabbitmq.exchange_type, ExchangeType::Fanout);
    assert_eq!((rabbitmq.queue_type, rabbitmq.declare), (QueueType::Classic, Declare::Nothing));
    let arguments: Vec<_> = rabbitmq.queue_arguments.iter().map(|(name, _)| name).collect();
    assert_eq!(arguments, ["x-max-length", "x-overflow"]);
    let (group, queues) = &rabbitmq.group_queues[0];
    assert_eq!(
        (group.as_str(), queues.as_slice()),
        ("billing", &["old-a", "old-b"].map(String::from)[..])
    );
    assert_eq!(rabbitmq.heartbeat, Some(Duration::from_secs(5)));
    assert_eq!((rabbitmq.confirm_channels, rabbitmq.confirm_window), (Some(1), Some(2)));
    assert_eq!(rabbitmq.ca_file.as_deref(), Some(std::path::Path::new("ca.pem")));
}

#[test]
fn what_rabbitmq_declares_is_everything_its_own_or_nothing() {
    let rabbitmq =
        |line: &str| format!("[broker]\ntype = \"rabbitmq\"\nurl = \"amqp://h\"\n{line}\n");
    let declare = |line: &str| match backend(&rabbitmq(line)) {
        BackendConfig::RabbitMq(rabbitmq) => rabbitmq.declare,
        other => panic!("{other:?}"),
    };
    assert_eq!(declare(""), Declare::All);
    assert_eq!(declare("declare = true"), Declare::All);
    assert_eq!(declare("declare = \"own\""), Declare::Own);
    assert_eq!(declare("declare = false"), Declare::Nothing);
    let wrong = problems(&rabbitmq("declare = \"some\""));
    assert!(wrong[0].contains("expected true, \"own\" or false"), "{wrong:?}");
}

#[test]
fn a_queue_argument_comes_from_the_environment_with_underscores_for_its_dashes() {
    let text = "[broker]\ntype = \"rabbitmq\"\nurl = \"amqp://h\"\n";
    let variables = [("TRUNKLINE__BROKER__QUEUE_ARGUMENTS__X_MAX_LENGTH", "7")];
    let config = Config::from_sources(text, "app.toml", variables).unwrap();
    let BackendConfig::RabbitMq(rabbitmq) = config.broker.outer() else { panic!("no rabbitmq") };
    let arguments: Vec<_> = rabbitmq.queue_arguments.iter().collect();
    assert_eq!(arguments, [("x-max-length", &PropertyValue::Integer(7))]);
}

#[test]
fn every_server_takes_a_mode_to_write_in() {
    for (kind, url) in [("redis", "redis://h"), ("kafka", "kafka://h"), ("rabbitmq", "amqp://h")] {
        let text = format!("[broker]\ntype = \"{kind}\"\nurl = \"{url}\"\n");
        let mode = |text: &str| match backend(text) {
            BackendConfig::Redis(redis) => redis.server.mode,
            BackendConfig::Kafka(kafka) => kafka.server.mode,
            BackendConfig::RabbitMq(rabbitmq) => rabbitmq.server.mode,
            other => panic!("{other:?}"),
        };
        assert_eq!(mode(&text), ContentMode::Binary);
        let structured = format!("{text}mode = \"structured\"\n");
        assert_eq!(mode(&structured), ContentMode::Structured);
        assert_eq!(mode(&config(&structured).describe()), ContentMode::Structured);
        let found = problems(&format!("{text}mode = \"json\"\n"));
        assert!(found[0].contains("binary, structured"), "{found:?}");
    }
}

#[test]
fn what_is_printed_of_a_server_reads_back() {
    for text in [
        "type = \"redis\"\nurl = \"redis://h\"\nprefix = \"p\"\nlease_ttl_ms = 5\n",
        "type = \"kafka\"\nurl = \"kafka://h\"\nproperties = { \"a.b\" = 1, c = \"x\" }\n",
        "type = \"rabbitmq\"\nurl = \"amqp://h\"\nexchange_type = \"direct\"\n\
         group_queues = { g = [\"q\"] }\n",
        "type = \"rabbitmq\"\nurl = \"amqp://h\"\ndeclare = \"own\"\n\
         queue_arguments = { x-max-length = 5, x-overflow = \"reject-publish\" }\n",
        "type = \"redis\"\nurl = \"redis://h\"\n",
        "type = \"kafka\"\nurl = \"kafka://h\"\n",
    ] {
        let original = config(&format!("[broker]\n{text}"));
        let printed = original.describe();
        assert_eq!(config(&printed), original, "{printed}");
    }
}

#[test]
fn a_broker_with_a_server_says_where_it_is() {
    for (kind, example) in [
        ("redis", "redis://127.0.0.1:6379/0"),
        ("kafka", "kafka://127.0.0.1:9092"),
        ("rabbitmq", "amqp://guest:guest@127.0.0.1:5672/%2f"),
    ] {
        let expected =
            format!("app.toml:1:2: broker.url: the broker needs its server: `url = \"{example}\"`");
        assert_eq!(problems(&format!("[broker]\ntype = \"{kind}\"\n")), [expected]);
        let found = problems(&format!("[broker]\ntype = \"{kind}\"\nurl = \"http://h\"\n"));
        assert!(found[0].contains("broker.url: the URL begins with `http:`"), "{found:?}");
    }
}

#[test]
fn the_url_of_a_server_may_be_a_secret_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("url");
    std::fs::write(&file, "amqp://guest:hare@h/%2f\n").unwrap();
    let variables = [
        ("TRUNKLINE__BROKER__TYPE".to_owned(), "rabbitmq".to_owned()),
        ("TRUNKLINE__BROKER__URL_FILE".to_owned(), file.display().to_string()),
    ];
    let config = Config::from_sources("", "app.toml", variables).unwrap();
    assert!(config.describe().contains("amqp://guest:***@h/%2f"), "{}", config.describe());
    let wrong =
        [("TRUNKLINE__BROKER__TYPE", "redis"), ("TRUNKLINE__BROKER__URL", "amqp://u:hare@h")];
    let found = problems_with("", &wrong);
    assert!(found.len() == 1 && !found[0].contains("hare"), "{found:?}");
}

#[test]
fn keys_of_another_broker_are_unknown() {
    let found = problems("[broker]\ntype = \"redis\"\nurl = \"redis://h\"\nexchnge = \"x\"\n");
    assert!(found[0].starts_with("app.toml:4:1: broker.exchnge: unknown key; "), "{found:?}");
    let found = problems("[broker]\ntype = \"kafka\"\nurl = \"kafka://h\"\nprefx = \"x\"\n");
    assert!(found[0].contains("did you mean `prefix`?"), "{found:?}");
}
