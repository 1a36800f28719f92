//! No password reaches a log.

use trunkline::config::{Config, Url};

use super::problems_with;

const PASSWORD: &str = "hare";

#[test]
fn the_configuration_shows_urls_without_their_password() {
    let text = "[store]\ntype = \"sqlite\"\nurl = \"sqlite://me:hare@h/e.db?key=hare\"\n";
    let config = Config::from_str(text, "app.toml").unwrap();
    for shown in [format!("{config:?}"), format!("{config:#?}"), config.describe()] {
        assert!(!shown.contains(PASSWORD), "{shown}");
        assert!(shown.contains("sqlite://me:***@h/e.db?key=***"), "{shown}");
    }
}

#[test]
fn a_url_of_every_backend_hides_its_password() {
    for (text, shown) in [
        ("amqp://guest:hare@127.0.0.1:5672/%2f", "amqp://guest:***@127.0.0.1:5672/%2f"),
        ("redis://:hare@h:6379/1", "redis://:***@h:6379/1"),
        ("postgres://app:hare@db/events", "postgres://app:***@db/events"),
    ] {
        let url = Url::new(text).unwrap();
        assert_eq!(url.to_string(), shown);
        assert_eq!(format!("{url:?}"), format!("{shown:?}"));
        assert_eq!(url.expose(), text);
    }
}

#[test]
fn no_problem_shows_a_password_wherever_its_url_was_written() {
    let url = "amqp://guest:hare@h";
    let texts = [
        format!("[broker]\ntype = \"rabbitmq\"\nurl = \"{url}\"\nuri = \"{url}\"\n"),
        format!("[broker]\ntype = \"redis\"\nurl = \"{url}\"\n"),
        format!("[broker]\ntype = \"rabbitmq\"\nurl = \"{url}\"\nexchange_type = \"{url}\"\n"),
        format!("[broker]\ntype = \"memory\"\nurl = \"{url}\"\n"),
        format!("[broker]\ntype = \"{url}\"\n"),
        format!("[broker]\ntype = \"memory\"\nuri = \"{url}\"\n"),
        format!("[store]\ntype = \"sqlite\"\nurl = \"{url}\"\n"),
        format!("[store]\ntype = \"sqlite\"\nurl = \"{url} \"\n"),
        format!("[store]\ntype = \"sqlite\"\nurl = {url}\n"),
        format!("[channels.a]\ntopics = [\"{url}\"]\nconsumers = [\"{url}\"]\n"),
        format!("[bus]\nenabled = \"{url}\"\nenabled = \"{url}\"\n"),
    ];
    for text in texts {
        let error = Config::from_str(&text, "app.toml").unwrap_err();
        assert!(!format!("{error} {error:?}").contains(PASSWORD), "{error}");
    }
}

#[test]
fn no_problem_shows_a_password_of_the_environment() {
    let url = "amqp://guest:hare@h";
    let variables = [
        ("TRUNKLINE__BROKER__TYPE", url),
        ("TRUNKLINE__BUS__ENABLED", url),
        ("TRUNKLINE__STORE__TYPE", "sqlite"),
        ("TRUNKLINE__STORE__URL", url),
        ("TRUNKLINE__STORE__URI", url),
        ("TRUNKLINE__ROUTING", url),
    ];
    let found = problems_with("", &variables);
    assert!(found.len() >= 5, "{found:?}");
    assert!(!found.concat().contains(PASSWORD), "{found:?}");
}
