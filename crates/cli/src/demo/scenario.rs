//! The built-in input: a shop fulfils orders, in typed events.

use serde::{Deserialize, Serialize};
use trunkline::{Consumer, DomainEvent, Event, Result, Typed};

use super::consumers::Seat;

/// How many orders come in.
const ORDERS: usize = 50;
/// Products of which the orders take; events of one product share a key.
const PRODUCTS: usize = 8;
/// One order in so many takes the last of a product, which is an alert.
const SELL_OUT: usize = 5;

/// A customer has ordered.
#[derive(Debug, Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders", key = order, stream = "order-{order}", source = "/demo/shop")]
struct OrderPlaced {
    order: String,
    customer: String,
    product: String,
    total_cents: u64,
}

/// The payment service holds the money of an order.
#[derive(Debug, Serialize, Deserialize, DomainEvent)]
#[event(topic = "payments", key = order, source = "/demo/payments")]
struct PaymentAuthorized {
    order: String,
    cents: u64,
}

/// The warehouse keeps a product for an order; it stays within this process.
#[derive(Debug, Serialize, Deserialize, DomainEvent)]
#[event(topic = "stock", key = product, source = "/demo/warehouse")]
struct StockReserved {
    product: String,
    order: String,
}

/// Somebody has to look at this now: a product is sold out.
#[derive(Debug, Serialize, Deserialize, DomainEvent)]
#[event(topic = "alerts", key = product, priority = critical, kind = notification,
    source = "/demo/warehouse")]
struct CriticalAlert {
    product: String,
    text: String,
}

/// The parcel of an order has left.
#[derive(Debug, Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders", key = order, stream = "order-{order}", source = "/demo/shipping")]
struct OrderShipped {
    order: String,
    parcel: String,
}

/// The payment service has taken the money of an order.
#[derive(Debug, Serialize, Deserialize, DomainEvent)]
#[event(topic = "payments", key = order, source = "/demo/payments")]
struct PaymentCaptured {
    order: String,
    cents: u64,
}

/// The parcel of an order has arrived.
#[derive(Debug, Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders", key = order, stream = "order-{order}", source = "/demo/shipping")]
struct OrderDelivered {
    order: String,
    signed_by: String,
}

/// The steps of an order, in their order.
const STEPS: usize = 6;

/// What the demo routes locally by type.
pub(super) const LOCAL_TYPE: &str = StockReserved::TYPE;

/// Every event of the scenario, in the order in which they are published: several orders are on
/// their way at a time, so that keys mix as they do in real life.
///
/// # Errors
/// `Invalid` when an event cannot be made.
pub(super) fn events() -> Result<Vec<Event>> {
    let mut events = Vec::new();
    let mut last: Vec<Option<Event>> = vec![None; ORDERS];
    for now in 0..ORDERS + STEPS {
        let under_way = (0..STEPS).filter_map(|step| Some((step, now.checked_sub(step)?)));
        for (step, order) in under_way.filter(|(_, order)| *order < ORDERS) {
            let caused = take_step(order, step, last[order].as_ref())?;
            last[order] = caused.last().cloned();
            events.extend(caused);
        }
    }
    Ok(events)
}

/// What an order causes in a step, as the consequence of what it caused before.
fn take_step(number: usize, step: usize, cause: Option<&Event>) -> Result<Vec<Event>> {
    let order = format!("order-{:03}", number + 1);
    let product = format!("product-{}", number % PRODUCTS + 1);
    let customer = format!("customer-{:02}", number * 7 % 20 + 1);
    let cents = 1_000 + (number as u64 * 379) % 9_000;
    let event = match step {
        0 => made(OrderPlaced { order, customer, product, total_cents: cents }, cause)?,
        1 => made(PaymentAuthorized { order, cents }, cause)?,
        2 => {
            let reserved = made(StockReserved { product: product.clone(), order }, cause)?;
            if !(number + 1).is_multiple_of(SELL_OUT) {
                return Ok(vec![reserved]);
            }
            let text = format!("{product} is sold out: order more");
            let alert = made(CriticalAlert { product, text }, Some(&reserved))?;
            return Ok(vec![reserved, alert]);
        }
        3 => made(OrderShipped { parcel: format!("parcel-of-{order}"), order }, cause)?,
        4 => made(PaymentCaptured { order, cents }, cause)?,
        _ => made(OrderDelivered { order, signed_by: customer }, cause)?,
    };
    Ok(vec![event])
}

fn made<T: DomainEvent>(payload: T, cause: Option<&Event>) -> Result<Event> {
    let draft = Event::builder(payload);
    match cause {
        Some(cause) => draft.caused_by(cause.attributes()).build(),
        None => draft.build(),
    }
}

/// Gives the consumer a handler for each type.
pub(super) fn handled_by(consumer: Consumer, seat: &Seat) -> Consumer {
    consumer
        .on::<Typed<OrderPlaced>, _, _>(seat.clone())
        .on::<Typed<PaymentAuthorized>, _, _>(seat.clone())
        .on::<Typed<StockReserved>, _, _>(seat.clone())
        .on::<Typed<CriticalAlert>, _, _>(seat.clone())
        .on::<Typed<OrderShipped>, _, _>(seat.clone())
        .on::<Typed<PaymentCaptured>, _, _>(seat.clone())
        .on::<Typed<OrderDelivered>, _, _>(seat.clone())
        // Other events on a shared broker are none of this run's.
        .on::<Event, _, _>(seat.clone())
}

type Decoding = fn(&Event) -> Result<()>;

const DECODINGS: [(&str, Decoding); 7] = [
    (OrderPlaced::TYPE, decode_as::<OrderPlaced>),
    (PaymentAuthorized::TYPE, decode_as::<PaymentAuthorized>),
    (StockReserved::TYPE, decode_as::<StockReserved>),
    (CriticalAlert::TYPE, decode_as::<CriticalAlert>),
    (OrderShipped::TYPE, decode_as::<OrderShipped>),
    (PaymentCaptured::TYPE, decode_as::<PaymentCaptured>),
    (OrderDelivered::TYPE, decode_as::<OrderDelivered>),
];

fn decode_as<T: DomainEvent>(event: &Event) -> Result<()> {
    event.typed::<T>().map(drop)
}

/// How an event of this type is decoded, if it is one of the scenario's.
pub(super) fn decoding(event_type: &str) -> Option<Decoding> {
    DECODINGS.iter().find(|(known, _)| *known == event_type).map(|(_, decode)| *decode)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn each_order_passes_its_steps_in_order_and_as_one_story() {
        let events = events().unwrap();
        assert_eq!(events.len(), ORDERS * STEPS + ORDERS / SELL_OUT);
        let mut stories: HashMap<_, Vec<&str>> = HashMap::new();
        for event in &events {
            let attributes = event.attributes();
            let story = attributes.correlation().unwrap_or(event.id()).clone();
            stories.entry(story).or_default().push(attributes.event_type());
        }
        assert_eq!(stories.len(), ORDERS);
        for story in stories.values() {
            assert_eq!((story[0], story[story.len() - 1]), ("OrderPlaced", "OrderDelivered"));
        }
    }

    #[test]
    fn every_type_of_the_scenario_decodes_from_its_own_bytes() {
        for event in events().unwrap() {
            let data = event.data().unwrap();
            let stored = Event::from_parts(event.attributes().clone(), data);
            decoding(event.attributes().event_type()).unwrap()(&stored).unwrap();
        }
    }
}
