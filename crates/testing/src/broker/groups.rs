//! Durable groups: each gets every event, from its making on, members or not.

use trunkline_core::{Broker, ErrorKind, GroupSpec, Pattern, Topic};

use super::{
    BrokerConditions, BrokerProperty, SOON, Subject, eventually, keyed, keyless, numbered,
    patience, promise, spread,
};
use crate::failure::{Check, Failure, ensure, ensure_eq};

pub(super) fn properties<B: Broker>() -> Vec<BrokerProperty<B>> {
    let little_retained = BrokerConditions { retained: Some(100), ..Default::default() };
    vec![
        promise!(what_is_published_before_its_first_member_reaches_a_declared_group),
        promise!(a_subscription_is_ready_when_it_is_returned),
        promise!(two_groups_each_get_every_event),
        promise!(a_group_lasts_without_members_and_keeps_what_waits),
        promise!(what_a_group_has_not_taken_outlives_the_retention).under(little_retained),
        promise!(topics_added_to_a_group_reach_it_from_then_on),
        promise!(declaring_a_group_twice_changes_nothing),
        promise!(a_group_with_members_cannot_be_deleted),
        promise!(a_deleted_group_gets_nothing_and_holds_nobody_up),
        promise!(deleting_a_group_that_is_not_there_says_so),
        promise!(what_nobody_takes_is_kept_for_a_group_to_come_or_refused_with_what_to_do),
        promise!(what_nobody_takes_leaves_others_of_the_batch_alone),
    ]
}

async fn what_is_published_before_its_first_member_reaches_a_declared_group<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    subject.declare("g", &topic).await?;
    subject.publish(&keyed(&topic, "k", 0..20)?).await?;
    let mut member = subject.join("g", &topic).await?;
    member.expect(0..20).await?;
    member.nothing().await
}

async fn a_subscription_is_ready_when_it_is_returned<B: Broker>(subject: Subject<B>) -> Check {
    for round in 0..10_u64 {
        let topic = subject.topic(&format!("a.{round}"))?;
        let mut member = subject.join(&format!("g{round}"), &topic).await?;
        let mut listener = subject.listen(&topic).await?;
        subject.publish_one(&numbered(&topic, None, round)?).await?;
        member.expect([round]).await?;
        listener.expect([round]).await?;
    }
    Ok(())
}

async fn two_groups_each_get_every_event<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut one = subject.join("one", &topic).await?;
    let mut two = subject.join("two", &topic).await?;
    subject.publish(&spread(&topic, 10, 0..100)?).await?;
    one.expect_all(0..100).await?;
    two.expect_all(0..100).await?;
    one.nothing().await?;
    two.nothing().await
}

async fn a_group_lasts_without_members_and_keeps_what_waits<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let mut first = subject.join("g", &topic).await?;
    subject.publish(&keyed(&topic, "k", 0..2)?).await?;
    first.expect(0..2).await?;
    first.leave().await?;
    subject.publish(&keyed(&topic, "k", 2..10)?).await?;
    let mut second = subject.join("g", &topic).await?;
    second.expect(2..10).await?;
    second.nothing().await
}

async fn what_a_group_has_not_taken_outlives_the_retention<B: Broker>(
    subject: Subject<B>,
) -> Check {
    const ALL: u64 = 2_000;
    let (kept, free) = (subject.topic("kept")?, subject.topic("free")?);
    subject.declare("slow", &kept).await?;
    let mut quick = subject.join("quick", &kept).await?;
    let mut only = subject.join("only", &free).await?;
    for first in (0..ALL).step_by(100) {
        for (topic, taker) in [(&kept, &mut quick), (&free, &mut only)] {
            subject.publish(&keyed(topic, "k", first..first + 100)?).await?;
            taker.expect(first..first + 100).await?;
        }
    }
    if !subject.hooks.retains_otherwise {
        // Until what all have taken is seen to go, the retention has proved nothing.
        let gone = || async { Ok(held(&subject, &free).await? < ALL / 2) };
        eventually(patience(), "events that all have taken go", gone).await?;
    }
    let mut slow = subject.join("slow", &kept).await?;
    slow.expect(0..ALL).await?;
    slow.nothing().await
}

/// How many events a topic holds.
async fn held<B: Broker>(subject: &Subject<B>, topic: &Topic) -> Result<u64, Failure> {
    let topics = subject.admin()?.topics().await?;
    Ok(topics.iter().find(|info| info.name == *topic).map_or(0, |info| info.events))
}

async fn topics_added_to_a_group_reach_it_from_then_on<B: Broker>(subject: Subject<B>) -> Check {
    let (one, two) = (subject.topic("one")?, subject.topic("two")?);
    let mut member = subject.join("g", &one).await?;
    let mut listener = subject.listen(&two).await?;
    subject.declare("g", &two).await?;
    subject.publish_one(&numbered(&two, None, 7)?).await?;
    member.expect([7]).await?;
    listener.expect([7]).await?;
    subject.publish_one(&numbered(&one, None, 8)?).await?;
    member.expect([8]).await?;
    let info = subject.info("g").await?.ok_or_else(|| Failure::new("the group is not listed"))?;
    for topic in [one, two] {
        let pattern = Pattern::from(topic);
        ensure!(info.topics.contains(&pattern), "{pattern} is not listed with the group");
    }
    Ok(())
}

async fn declaring_a_group_twice_changes_nothing<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    subject.declare("g", &topic).await?;
    subject.publish(&keyed(&topic, "k", 0..5)?).await?;
    subject.declare("g", &topic).await?;
    let mut member = subject.join("g", &topic).await?;
    subject.declare("g", &topic).await?;
    member.expect(0..5).await?;
    subject.publish(&keyed(&topic, "k", 5..10)?).await?;
    member.expect(5..10).await?;
    member.nothing().await
}

async fn a_group_with_members_cannot_be_deleted<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    let group = subject.group("g")?;
    match subject.admin()?.delete_group(&group).await {
        Err(error) => ensure_eq!(error.kind(), ErrorKind::Conflict, "the kind of `{error}`"),
        Ok(_) => ensure!(false, "a group with a live member was deleted"),
    }
    subject.publish_one(&numbered(&topic, None, 1)?).await?;
    member.expect([1]).await
}

async fn a_deleted_group_gets_nothing_and_holds_nobody_up<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut spec = GroupSpec::new(subject.group("gone")?, [Pattern::from(topic.clone())]);
    spec.buffer = subject.expected.buffer.then_some(2);
    subject.admin()?.declare_group(spec).await?;
    let mut other = subject.join("other", &topic).await?;
    subject.publish(&keyless(&topic, 0..2)?).await?;
    let gone = subject.group("gone")?;
    // A member that has just left may be listed for a moment where it left another process.
    let deleted = || async { Ok(subject.admin()?.delete_group(&gone).await?) };
    eventually(SOON, "the group is deleted", deleted).await?;
    ensure!(subject.info("gone").await?.is_none(), "a deleted group is listed");
    subject.publish(&keyless(&topic, 2..10)?).await?;
    other.expect_all(0..10).await
}

async fn deleting_a_group_that_is_not_there_says_so<B: Broker>(subject: Subject<B>) -> Check {
    let group = subject.group("nobody")?;
    let deleted = subject.admin()?.delete_group(&group).await?;
    ensure!(!deleted, "a group that was never made was deleted");
    Ok(())
}

async fn what_nobody_takes_is_kept_for_a_group_to_come_or_refused_with_what_to_do<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let _elsewhere = subject.join("g", &subject.topic("elsewhere")?).await?;
    let event = numbered(&topic, None, 0)?;
    let result = subject.broker.publish(&[event], &Default::default()).await;
    if subject.expected.history {
        result.into_result()?;
        return subject.join("later", &topic).await?.expect([0]).await;
    }
    let Some(error) = result.error(0) else {
        return Err(Failure::new("an event that nobody takes was accepted"));
    };
    ensure_eq!(error.kind(), ErrorKind::Unroutable, "the kind of `{error}`");
    let text = error.to_string();
    ensure!(text.contains("channels.*.consumers"), "`{text}` does not say what to configure");
    Ok(())
}

async fn what_nobody_takes_leaves_others_of_the_batch_alone<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let (taken, untaken) = (subject.topic("taken")?, subject.topic("untaken")?);
    let mut member = subject.join("g", &taken).await?;
    let batch =
        [numbered(&taken, None, 0)?, numbered(&untaken, None, 1)?, numbered(&taken, None, 2)?];
    let result = subject.broker.publish(&batch, &Default::default()).await;
    let failed: Vec<_> = result.failures().map(|(place, error)| (place, error.kind())).collect();
    let refused = [(1, ErrorKind::Unroutable)];
    let wanted = if subject.expected.history { &[][..] } else { &refused[..] };
    ensure_eq!(failed, wanted, "what failed of the batch");
    member.expect_all([0, 2]).await?;
    member.nothing().await
}
