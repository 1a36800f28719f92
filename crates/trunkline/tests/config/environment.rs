//! What variables do to the configuration.

use std::ffi::OsString;
use std::time::Duration;

use trunkline::config::{BackendConfig, BrokerConfig, Config, Location, StoreConfig};

use super::problems_with;

fn overlaid(text: &str, variables: &[(&str, &str)]) -> Config {
    let read = Config::from_sources(text, "app.toml", variables.iter().copied());
    read.unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_variable_wins_over_the_file_and_over_the_default() {
    let variables = [
        ("TRUNKLINE__BUS__SOURCE", "/from/env"),
        ("TRUNKLINE__BUS__CLOSE_TIMEOUT_MS", "7"),
        ("PATH", "/bin"),
        ("TRUNKLINE_LOG", "debug"),
    ];
    let config = overlaid("[bus]\nsource = \"/from/file\"\nenabled = false\n", &variables);
    assert_eq!(config.bus.source.as_deref(), Some("/from/env"));
    assert_eq!(config.bus.close_timeout, Duration::from_millis(7));
    assert!(!config.bus.enabled, "what no variable names stays as the file has it");
}

#[test]
fn the_value_of_a_variable_is_a_toml_value_or_a_bare_word() {
    let variables = [
        ("TRUNKLINE__BUS__ENABLED", "false"),
        ("TRUNKLINE__BUS__SOURCE", "\"quoted\""),
        ("TRUNKLINE__STORE__TYPE", "sqlite"),
        ("TRUNKLINE__STORE__URL", "sqlite://events.db?mode=rwc"),
        ("TRUNKLINE__CHANNELS__ORDERS__TOPICS", "[\"orders.#\"]"),
        ("TRUNKLINE__CHANNELS__ORDERS__RETRY", "{ attempts = 9 }"),
    ];
    let config = overlaid("", &variables);
    assert!(!config.bus.enabled);
    assert_eq!(config.bus.source.as_deref(), Some("quoted"));
    let StoreConfig::Sqlite(store) = &config.store else { panic!("{:?}", config.store) };
    assert_eq!(store.url.expose(), "sqlite://events.db?mode=rwc");
    assert_eq!(config.channels[0].name, "orders");
    assert_eq!(config.channels[0].topics[0].as_str(), "orders.#");
    assert_eq!(config.channels[0].retry.attempts, 9);
}

#[test]
fn a_variable_reaches_nested_tables_in_any_case() {
    let variables = [
        ("trunkline__broker__remote__history", "3"),
        ("TRUNKLINE__CHANNELS__SECURITY__BUFFER_SIZE", "11"),
        ("Trunkline__Channels__Audit_Log__Retry__Attempts", "1"),
    ];
    let text = "broker = { type = \"hybrid\", remote = { type = \"memory\" } }\n\
                [channels.Security]\ntopics = [\"s\"]\n[channels.audit-log]\ntopics = [\"a\"]\n";
    let config = overlaid(text, &variables);
    let BrokerConfig::Hybrid(hybrid) = &config.broker else { panic!("{:?}", config.broker) };
    let BackendConfig::Memory(remote) = &hybrid.remote else { panic!("{hybrid:?}") };
    assert_eq!(remote.history, 3);
    assert_eq!(config.channels.len(), 2, "no channel is made beside those of the file");
    assert_eq!(config.channels[0].buffer_size, Some(11));
    assert_eq!(config.channels[1].retry.attempts, 1);
}

#[test]
fn channels_of_the_environment_come_after_those_of_the_file_by_name() {
    let variables = [
        ("TRUNKLINE__CHANNELS__B__TOPICS", "[\"b\"]"),
        ("TRUNKLINE__CHANNELS__A__TOPICS", "[\"a\"]"),
    ];
    let config = overlaid("[channels.z]\ntopics = [\"z\"]\n", &variables);
    let names: Vec<_> = config.channels.iter().map(|channel| channel.name.as_str()).collect();
    assert_eq!(names, ["z", "a", "b"]);
}

#[test]
fn a_secret_comes_from_a_file_as_text_without_its_line_end() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    for (content, read) in [("sqlite://a?key=x\n", "sqlite://a?key=x"), ("sqlite:1", "sqlite:1")] {
        std::fs::write(&secret, content).unwrap();
        let variables = [("TRUNKLINE__STORE__URL_FILE", secret.to_str().unwrap())];
        let config = overlaid("[store]\ntype = \"sqlite\"\nurl = \"sqlite:old\"\n", &variables);
        let StoreConfig::Sqlite(store) = &config.store else { panic!("{:?}", config.store) };
        assert_eq!(store.url.expose(), read);
    }
    std::fs::write(&secret, "12345\r\n").unwrap();
    let digits = overlaid("", &[("TRUNKLINE__BUS__SOURCE_FILE", secret.to_str().unwrap())]);
    assert_eq!(digits.bus.source.as_deref(), Some("12345"), "digits in a secret stay text");
}

#[test]
fn a_key_given_as_a_value_and_as_a_file_is_an_error_that_names_both() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "/a").unwrap();
    let variables = [
        ("TRUNKLINE__BUS__SOURCE_FILE", secret.to_str().unwrap()),
        ("TRUNKLINE__BUS__SOURCE", "/b"),
    ];
    let expected = "TRUNKLINE__BUS__SOURCE_FILE: bus.source: `TRUNKLINE__BUS__SOURCE` gives the \
                    same key: keep one of the two";
    assert_eq!(problems_with("", &variables), [expected]);
}

#[test]
fn a_secret_file_that_is_not_there_is_named() {
    let found = problems_with("", &[("TRUNKLINE__BUS__SOURCE_FILE", "/no/such/secret")]);
    let start = "TRUNKLINE__BUS__SOURCE_FILE: bus.source: cannot read `/no/such/secret`: ";
    assert!(found[0].starts_with(start), "{found:?}");
}

#[test]
fn a_file_key_in_the_file_itself_is_unknown() {
    let found = problems_with("[bus]\nsource_file = \"/run/secret\"\n", &[]);
    assert!(found[0].starts_with("app.toml:2:1: bus.source_file: unknown key; "), "{found:?}");
}

#[test]
fn problems_in_a_variable_name_the_variable() {
    let variables = [
        ("TRUNKLINE__BUS__ENABELD", "true"),
        ("TRUNKLINE__BUS__MAX_EVENT_BYTES", "many"),
        ("TRUNKLINE__BUS__SOURCE", "12"),
        ("TRUNKLINE__BUS____X", "1"),
        ("TRUNKLINE__STORE__TYPE__X", "1"),
        ("TRUNKLINE__STORE__TYPE", "none"),
    ];
    let expected = [
        "TRUNKLINE__BUS____X: bus..x: two underscores stand between two words: \
         `TRUNKLINE__BROKER__URL`",
        "TRUNKLINE__STORE__TYPE__X: store.type.x: `type` is a string there, so nothing stands \
         below it",
        "TRUNKLINE__BUS__SOURCE: bus.source: expected a string, found an integer; quote the value \
         inside the variable to make it a string",
        "TRUNKLINE__BUS__MAX_EVENT_BYTES: bus.max_event_bytes: expected an integer, found a \
         string; a variable holds a TOML value, and what is none is a string",
        "TRUNKLINE__BUS__ENABELD: bus.enabeld: unknown key; did you mean `enabled`? known keys: \
         `enabled`, `source`, `max_event_bytes`, `publish_timeout_ms`, `close_timeout_ms`",
    ];
    assert_eq!(problems_with("", &variables), expected);
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_utf8_is_an_error_and_foreign_ones_do_not_matter() {
    use std::os::unix::ffi::OsStringExt as _;

    let odd = || OsString::from_vec(vec![0xff]);
    let variables = [(OsString::from("OTHER"), odd()), ("TRUNKLINE__BUS__SOURCE".into(), odd())];
    let found = Config::check_sources("", "app.toml", variables).unwrap_err();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].key, "bus.source");
    let variable = "TRUNKLINE__BUS__SOURCE".into();
    assert_eq!(found[0].location, Location::Variable { variable });
    assert_eq!(found[0].message, "the value is not UTF-8");
}
