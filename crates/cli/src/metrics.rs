//! `trunkline metrics`: what the broker knows, as numbers.

use std::io;

use trunkline::HealthStatus;

use crate::arguments::LookOptions;
use crate::exit::Exit;
use crate::session::{Purpose, Session, block_on, refuse};
use crate::terminal::{harmless, write_out};

/// Prints what the broker knows; the counters of this run of the program are all zero.
pub(crate) fn run(options: &LookOptions) -> Exit {
    block_on(async {
        let session = match Session::open(options.config.as_deref(), Purpose::Look).await {
            Ok(session) => session,
            Err(exit) => return exit,
        };
        let exit = print(&session, options.json).await;
        session.close(exit).await
    })
}

async fn print(session: &Session, as_json: bool) -> Exit {
    let observed = session.bus.observe().await;
    let mut exit = match observed.status {
        HealthStatus::Up | HealthStatus::Degraded => Exit::Fine,
        HealthStatus::Down => Exit::Failed,
    };
    if let Some(problem) = &observed.problem {
        exit = refuse(Exit::Failed, &format!("the groups are not known: {}", harmless(problem)));
    }
    let text = match as_json {
        true => match serde_json::to_string(&observed) {
            Ok(line) => line + "\n",
            Err(error) => {
                return refuse(Exit::Failed, &format!("cannot write the metrics: {error}"));
            }
        },
        false => observed.to_prometheus(),
    };
    write_out(&mut io::stdout().lock(), text.as_bytes(), exit)
}
