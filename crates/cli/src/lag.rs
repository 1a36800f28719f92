//! `trunkline lag`: how many events wait for each group.

use std::fmt::Write as _;
use std::io;

use serde_json::json;
use trunkline::GroupInfo;

use crate::arguments::LookOptions;
use crate::exit::Exit;
use crate::session::{Purpose, Session, block_on, refuse};
use crate::terminal::{Chain, write_out};

/// Prints every group of the broker with its lag.
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
    let broker = session.bus.broker();
    let name = broker.capabilities().name;
    let Some(admin) = broker.admin() else {
        return refuse(Exit::Failed, &format!("the {name} broker has no operations tools"));
    };
    let groups = match admin.groups().await {
        Ok(groups) => groups,
        Err(error) => return refuse(Exit::Failed, &Chain(&error).to_string()),
    };
    let text = match as_json {
        true => format!("{}\n", json!({ "broker": name, "groups": groups })),
        false => table(&groups),
    };
    write_out(&mut io::stdout().lock(), text.as_bytes(), Exit::Fine)
}

fn table(groups: &[GroupInfo]) -> String {
    let width = groups.iter().map(|group| group.name.as_str().len()).max().unwrap_or(0).max(5);
    let mut table = String::new();
    let mut row = |group: &str, members: &str, lag: &str, in_flight: &str, topics: &str| {
        // Writing into a string cannot fail.
        writeln!(table, "{group:width$}  {members:>7}  {lag:>9}  {in_flight:>9}  {topics}")
            .unwrap_or_default();
    };
    row("GROUP", "MEMBERS", "LAG", "IN FLIGHT", "TOPICS");
    for group in groups {
        let topics: Vec<_> = group.topics.iter().map(ToString::to_string).collect();
        row(
            group.name.as_str(),
            &group.members.to_string(),
            &group.lag.to_string(),
            &group.in_flight.to_string(),
            &topics.join(" "),
        );
    }
    table
}
