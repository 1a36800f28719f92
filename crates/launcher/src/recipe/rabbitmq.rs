//! Debian's rabbitmq-server, without the wrapper that changes to a user of its own.

use super::{Place, Recipe, lines};
use crate::error::Result;
use crate::folder;
use crate::install;

/// How soon a quorum queue that passes on what has expired offers it again where no confirm came, as when the
/// queue it goes to had no leader yet after a restart: by default, 180 s.
pub(crate) const PASS_ON_AGAIN: &str = "-rabbit dead_letter_worker_publisher_confirm_timeout 10000";

const SCRIPT: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

pub(super) fn prepare(place: Place<'_>) -> Result<Recipe> {
    let program = install::program(SCRIPT, "rabbitmq-server")?;
    let at = |name: &str| place.folder.join(name).display().to_string();
    let [epmd, distribution] = &place.ports.inner;
    let main = place.ports.main.number();
    // The listener is said here and not in the environment, which would open one for every address.
    let ours = [
        ("listeners.tcp.local", format!("127.0.0.1:{main}")),
        ("log.console", "true".to_owned()),
        ("log.file", "false".to_owned()),
        // A machine that is nearly full must not look like a broker that blocks its publishers.
        ("disk_free_limit.absolute", "50MB".to_owned()),
    ];
    folder::write(&place.folder.join("rabbitmq.conf"), lines(&ours, place.settings, " = "))?;
    folder::write(&place.folder.join("enabled_plugins"), "[].\n")?;
    folder::write(&place.folder.join("environment.conf"), "")?;

    let mut recipe = Recipe::new(program, place.folder);
    let variables = [
        // The cookie, which guards the node from other nodes, is made here.
        ("HOME", place.folder.display().to_string()),
        ("RABBITMQ_NODENAME", "trunkline@localhost".to_owned()),
        ("RABBITMQ_MNESIA_BASE", at("data")),
        ("RABBITMQ_LOG_BASE", at("logs")),
        ("RABBITMQ_CONF_ENV_FILE", at("environment.conf")),
        ("RABBITMQ_CONFIG_FILE", at("rabbitmq.conf")),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", at("enabled_plugins")),
        ("RABBITMQ_PID_FILE", at("rabbitmq.pid")),
        ("RABBITMQ_DIST_PORT", distribution.number().to_string()),
        (
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            format!(
                "-start_epmd false -kernel inet_dist_use_interface {{127,0,0,1}} {PASS_ON_AGAIN}"
            ),
        ),
        ("ERL_EPMD_PORT", epmd.number().to_string()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
        // Makes the script become the Erlang machine instead of waiting beside it: one pid.
        ("RUNNING_UNDER_SYSTEMD", "true".to_owned()),
    ];
    recipe.environment =
        variables.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    // A node starts its name server itself when there is none, but as a daemon that nobody would end.
    recipe.helper = Some("epmd".to_owned());
    Ok(recipe)
}
