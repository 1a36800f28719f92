//! Topics are apart from each other, and patterns match whole words.

use trunkline_core::{Broker, Pattern, SubscribeOptions};

use super::{BrokerProperty, SOON, Subject, ack, eventually, number, numbered, promise};
use crate::failure::{Check, ensure_eq};

pub(super) fn properties<B: Broker>() -> Vec<BrokerProperty<B>> {
    vec![
        promise!(a_star_is_one_word),
        promise!(a_hash_is_zero_or_more_words),
        promise!(a_pattern_takes_topics_that_are_made_later),
        promise!(a_hash_alone_takes_every_topic),
        promise!(a_subscription_of_several_topics_gets_each_event_once),
        promise!(topics_whose_names_resemble_each_other_stay_apart),
        promise!(admin_lists_a_topic_that_holds_events),
    ]
}

/// Publishes number n on the n-th topic and checks which of them the patterns let through.
async fn ensure_matches<B: Broker>(
    subject: &Subject<B>,
    patterns: &[&str],
    topics: &[&str],
    wanted: &[u64],
) -> Check {
    let patterns = patterns.iter().map(|pattern| subject.pattern(pattern));
    let patterns = patterns.collect::<Result<Vec<Pattern>, _>>()?;
    let group = subject.group("g")?;
    let mut member = subject.subscribe(SubscribeOptions::group(group, patterns.clone())).await?;
    let mut listener = subject.subscribe(SubscribeOptions::broadcast(patterns)).await?;
    // Takes everything, so that no topic is unroutable.
    let all = SubscribeOptions::group(subject.group("all")?, [subject.pattern("#")?]);
    let _all = subject.subscribe(all).await?;
    for (at, topic) in (0..).zip(topics) {
        subject.publish_one(&numbered(&subject.topic(topic)?, None, at)?).await?;
    }
    for taker in [&mut member, &mut listener] {
        taker.expect_all(wanted.iter().copied()).await?;
        taker.nothing().await?;
    }
    Ok(())
}

async fn a_star_is_one_word<B: Broker>(subject: Subject<B>) -> Check {
    let topics = ["a", "a.b", "a.c", "a.b.c", "b.a", "a.b.d.c"];
    ensure_matches(&subject, &["a.*"], &topics, &[1, 2]).await
}

async fn a_hash_is_zero_or_more_words<B: Broker>(subject: Subject<B>) -> Check {
    let topics = ["a", "a.b", "a.b.c", "ab", "b.a", "b"];
    ensure_matches(&subject, &["a.#"], &topics, &[0, 1, 2]).await
}

async fn a_pattern_takes_topics_that_are_made_later<B: Broker>(subject: Subject<B>) -> Check {
    let options = SubscribeOptions::group(subject.group("g")?, [subject.pattern("*.placed")?]);
    let mut member = subject.subscribe(options).await?;
    let mut listener =
        subject.subscribe(SubscribeOptions::broadcast([subject.pattern("#")?])).await?;
    for number in 0..20 {
        // Every topic is new, and its first event is not missed.
        let topic = subject.topic(&format!("shop-{number}.placed"))?;
        subject.publish_one(&numbered(&topic, None, number)?).await?;
    }
    member.expect_all(0..20).await?;
    listener.expect_all(0..20).await
}

async fn a_hash_alone_takes_every_topic<B: Broker>(subject: Subject<B>) -> Check {
    let mut listener = subject.subscribe(SubscribeOptions::broadcast([Pattern::all()])).await?;
    let topic = subject.topic("a.b.c")?;
    subject.publish_one(&numbered(&topic, None, 1)?).await?;
    loop {
        let delivery = listener.next().await?;
        let ours = delivery.event().topic() == &topic;
        ack(delivery).await?;
        // A shared server has topics of others.
        if ours {
            return Ok(());
        }
    }
}

async fn a_subscription_of_several_topics_gets_each_event_once<B: Broker>(
    subject: Subject<B>,
) -> Check {
    // The patterns overlap: an event that two of them match is still one event.
    let topics = ["a", "a.b", "b.a", "c"];
    ensure_matches(&subject, &["a.#", "a.*", "b.a"], &topics, &[0, 1, 2]).await
}

async fn topics_whose_names_resemble_each_other_stay_apart<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let names = ["orders", "orders-new", "orders.new", "Orders", "orders_new"];
    let mut takers = Vec::new();
    for name in names {
        let topic = subject.topic(name)?;
        takers.push((subject.join(&format!("g-{name}"), &topic).await?, topic));
    }
    for (at, (_, topic)) in (0..).zip(&takers) {
        subject.publish_one(&numbered(topic, Some("k"), at)?).await?;
    }
    for (at, (taker, topic)) in (0..).zip(&mut takers) {
        let event = taker.event().await?;
        ensure_eq!(number(&event)?, at, "the number that came on {topic}");
        ensure_eq!(event.topic(), topic, "the topic of number {at}");
        taker.nothing().await?;
    }
    Ok(())
}

async fn admin_lists_a_topic_that_holds_events<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    subject.declare("g", &topic).await?;
    subject.publish_one(&numbered(&topic, None, 0)?).await?;
    let listed = || async {
        let topics = subject.admin()?.topics().await?;
        Ok(topics.iter().any(|info| info.name == topic && info.events > 0))
    };
    eventually(SOON, "the topic is listed with its event", listed).await
}
