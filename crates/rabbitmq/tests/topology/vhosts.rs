//! Virtual hosts.

use trunkline_core::{Broker as _, BrokerExt as _, ErrorKind};
use trunkline_rabbitmq::{RabbitMqBroker, RabbitMqConfig};

use crate::{Place, SERVER, SOON, Taker, connect, event, group, tool};

async fn run(arguments: Vec<String>) -> String {
    let running = tokio::task::spawn_blocking(move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        tool::rabbitmqctl(&SERVER.port().to_string(), &arguments).unwrap()
    });
    running.await.unwrap()
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_path_of_the_url_is_the_virtual_host() {
    let place = Place::new().await;
    run(words("add_vhost shop/west")).await;
    let url = format!("amqp://guest:guest@127.0.0.1:{}/shop%2fwest", SERVER.port());
    let config = || RabbitMqConfig::new(&url).unwrap().with_prefix(place.prefix.as_str());
    let error = RabbitMqBroker::connect(config()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");

    run(words("set_permissions -p shop/west guest .* .* .*")).await;
    let broker = connect(config().with_partitions(1)).await;
    let mut member = Taker::open(&broker, group("g", "orders")).await;
    broker.publish_one(&event("orders", 1)).await.unwrap();
    member.take(1).await;
    member.close().await;
    broker.close(SOON).await.unwrap();
    let there = run(words("list_queues -p shop/west name")).await;
    assert!(there.contains(&place.name("g..0")), "{there}");
    assert!(place.list(&["list_queues", "name"]).await.is_empty());
}
