//! `trunkline health`: how the broker is.

use std::fmt::Write as _;
use std::io;

use serde_json::{Map, Value, json};
use trunkline::config::Config;
use trunkline::prelude::*;
use trunkline::{Health, HealthStatus};

use crate::arguments::LookOptions;
use crate::config_check;
use crate::exit::Exit;
use crate::session::{Purpose, block_on, configuration, refuse};
use crate::terminal::{Chain, Paint, coloured, harmless, write_out};

/// Says how the broker is; one that cannot be reached is down.
pub(crate) fn run(options: &LookOptions) -> Exit {
    let config = match configuration(options.config.as_deref(), Purpose::Look) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    block_on(look(&config, options.json))
}

async fn look(config: &Config, as_json: bool) -> Exit {
    let health = match EventBus::from_config(config).await {
        Ok(bus) => {
            let health = bus.health().await;
            if let Err(error) = bus.close(config.bus.close_timeout).await {
                refuse(Exit::Failed, &format!("no clean close: {}", Chain(&error)));
            }
            health
        }
        Err(error) => match error.kind() {
            ErrorKind::Disconnected | ErrorKind::TimedOut => {
                Health::down(Chain(&error).to_string())
            }
            _ => return crate::session::refuse_start(&error),
        },
    };
    let exit = match health.status {
        HealthStatus::Up | HealthStatus::Degraded => Exit::Fine,
        HealthStatus::Down => Exit::Failed,
    };
    let kind = kind(config);
    let out = io::stdout();
    let text = match as_json {
        true => format!("{}\n", object(&kind, &health)),
        false => page(&kind, &health, Paint::new(coloured(&out))),
    };
    write_out(&mut out.lock(), text.as_bytes(), exit)
}

/// The word of the configuration for the broker.
fn kind(config: &Config) -> String {
    let effective = config_check::effective(config);
    effective.pointer("/broker/type").and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn object(kind: &str, health: &Health) -> Value {
    let facts = health.facts.iter().map(|(name, fact)| (name.clone(), fact.as_str().into()));
    json!({
        "broker": kind,
        "status": health.status,
        "reconnects": health.reconnects,
        "facts": facts.collect::<Map<_, _>>(),
    })
}

fn page(kind: &str, health: &Health, paint: Paint) -> String {
    let word = match health.status {
        HealthStatus::Up => paint.good("up"),
        HealthStatus::Degraded => paint.bold("degraded"),
        HealthStatus::Down => paint.bad("down"),
    };
    let mut page = String::new();
    // Writing into a string cannot fail.
    writeln!(page, "{kind}: {word}").unwrap_or_default();
    writeln!(page, "  reconnects: {}", health.reconnects).unwrap_or_default();
    for (name, fact) in &health.facts {
        writeln!(page, "  {}: {}", harmless(name), harmless(fact)).unwrap_or_default();
    }
    page
}
