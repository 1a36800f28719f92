//! A typed event from publish to handler, and a second event that the handler publishes in turn.
//!
//! Run it: `cargo run -p example-01-hello-event`

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use trunkline::prelude::*;

/// Events of one customer are handled in the order in which they were published.
#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders.placed", key = customer)]
struct OrderPlaced {
    customer: String,
    total_cents: u64,
}

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "invoices.sent", key = customer)]
struct InvoiceSent {
    customer: String,
    number: u32,
}

/// Sends the invoice of an order. An error would be a failed attempt, and the order tried again.
async fn send_invoice(order: Typed<OrderPlaced>, context: Context) -> Result<()> {
    println!("billing: {} owes {} cents", order.customer, order.total_cents);
    context.publish(InvoiceSent { customer: order.customer.clone(), number: 1 }).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let bus = EventBus::in_memory().await?;
    let (mailed, mut invoices) = mpsc::unbounded_channel();

    // A group gets each event once, whichever of its members handles it.
    bus.subscribe(Consumer::group("billing").on(send_invoice)).await?;
    let mail = Consumer::group("mail").on(move |invoice: Typed<InvoiceSent>| {
        let mailed = mailed.clone();
        async move {
            println!("mail: invoice {} goes to {}", invoice.number, invoice.customer);
            mailed.send(invoice.event().clone())
        }
    });
    bus.subscribe(mail).await?;

    let order = OrderPlaced { customer: "ann".to_owned(), total_cents: 1250 };
    let order_id = bus.publish(order).await?;

    // A close stops the intake, so what shall be handled is waited for first.
    if let Some(invoice) = invoices.recv().await {
        let attributes = invoice.attributes();
        println!("type: {}, topic: {}", attributes.event_type(), attributes.topic());
        println!("caused by the order: {}", attributes.causation() == Some(&order_id));
        println!("correlated with the order: {}", attributes.correlation() == Some(&order_id));
    }
    bus.close(Duration::from_secs(5)).await
}
