use trunkline_core::*;
use trunkline_redis::*;
use std::time::*;
#[tokio::main]
async fn main() {
    let config = RedisConfig::new("redis://127.0.0.1:7777/0").unwrap().with_prefix("s-");
    let broker = RedisBroker::connect(config).await.unwrap();
    let topic = Topic::new("a").unwrap();
    let t0 = Instant::now();
    for n in 0..20 {
        let options = SubscribeOptions::group(Group::new("g").unwrap(), [Pattern::from(topic.clone())]);
        let s = broker.subscribe(options).await.unwrap();
        if n % 2 == 0 { s.close(Duration::from_secs(5)).await.unwrap(); }
    }
    println!("{:?}", t0.elapsed());
    tokio::time::sleep(Duration::from_secs(3)).await;
    println!("{}", tokio::runtime::Handle::current().metrics().num_alive_tasks());
}
