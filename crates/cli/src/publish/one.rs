//! `trunkline publish TOPIC`: one event from the command line.

use std::io::{self, Read as _};

use serde::de::IgnoredAny;
use serde_json::json;
use trunkline::{Data, Event, Topic};

use super::batch::Batch;
use crate::arguments::PublishOptions;
use crate::exit::Exit;
use crate::interrupt::Interrupt;
use crate::session::{Purpose, Session, refuse};
use crate::terminal::{Chain, harmless, write_out};

pub(super) async fn publish(topic: &Topic, options: &PublishOptions) -> Exit {
    let event = match event(topic, options) {
        Ok(event) => event,
        Err(reason) => return refuse(Exit::Usage, &reason),
    };
    let interrupt = match Interrupt::listen() {
        Ok(interrupt) => interrupt,
        Err(error) => return refuse(Exit::Failed, &format!("cannot listen for Ctrl-C: {error}")),
    };
    let session = match Session::open(options.config.as_deref(), Purpose::Publish).await {
        Ok(session) => session,
        Err(exit) => return exit,
    };
    let mut batch = Batch::default();
    batch.add(1, event.clone());
    let outcome = batch.publish(&session.bus, &interrupt).await;
    let refused = outcome.refused.into_iter().map(|(_, reason)| reason).next();
    let exit = match outcome.given_up.or(refused) {
        None => print(&event, options.json),
        Some(reason) => refuse(Exit::Failed, &format!("not published: {}", harmless(&reason))),
    };
    session.close(exit).await
}

fn event(topic: &Topic, options: &PublishOptions) -> Result<Event, String> {
    let data = match &options.data {
        Some(text) => Data::json(json_data(text)?),
        None => Data::none(),
    };
    let mut draft = Event::from_data(options.event_type.as_str(), topic.clone(), data);
    if let Some(key) = &options.key {
        draft = draft.key(key.as_str());
    }
    if let Some(priority) = options.priority {
        draft = draft.priority(priority);
    }
    draft.build().map_err(|error| Chain(&error).to_string())
}

/// The JSON that the option gives, or names.
fn json_data(option: &str) -> Result<Vec<u8>, String> {
    let (name, bytes) = match option.strip_prefix('@') {
        Some(path) => {
            let name = harmless(path);
            let read = std::fs::read(path);
            (name.clone(), read.map_err(|error| format!("cannot read {name}: {error}"))?)
        }
        None if option == "-" => {
            let mut bytes = Vec::new();
            let read = io::stdin().lock().read_to_end(&mut bytes);
            read.map_err(|error| format!("cannot read standard input: {error}"))?;
            ("standard input".to_owned(), bytes)
        }
        None => ("--data".to_owned(), option.as_bytes().to_vec()),
    };
    match serde_json::from_slice::<IgnoredAny>(&bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => {
            Err(format!("{name} is no JSON: {error}; a string needs its quotes: --data '\"text\"'"))
        }
    }
}

fn print(event: &Event, as_json: bool) -> Exit {
    let (id, topic) = (event.id().to_string(), event.topic().as_str());
    let line = match as_json {
        true => format!("{}\n", json!({ "id": id, "topic": topic, "published": 1 })),
        false => format!("{id}\n"),
    };
    write_out(&mut io::stdout().lock(), line.as_bytes(), Exit::Fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_json_or_names_it() {
        assert_eq!(json_data("{\"a\":1}").unwrap(), b"{\"a\":1}");
        assert!(json_data("text").unwrap_err().contains("--data is no JSON"));
        assert!(json_data("@no/such.json").unwrap_err().contains("no/such.json"));
    }
}
