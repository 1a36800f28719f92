//! What the grammar knows and this version, or the chosen type, does not do.

use super::problems;

const HYBRID: &str = "broker = { type = \"hybrid\", remote = { type = \"memory\" } }\n";

/// The one problem of `text`.
fn problem(text: &str) -> String {
    let mut found = problems(text);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[test]
fn stores_of_later_versions_are_refused_by_name() {
    for kind in ["redis", "postgres"] {
        let found = problem(&format!("[store]\ntype = \"{kind}\"\nurl = \"x://h\"\n"));
        let expected = format!(
            "app.toml:2:8: store.type: store type `{kind}` is not available in this version; \
             available: none, memory, sqlite"
        );
        assert_eq!(found, expected);
    }
}

#[test]
fn what_a_later_version_will_do_is_refused_and_not_ignored() {
    let channel = "[channels.a]\ntopics = [\"a\"]\n";
    let later = "is not available in this version";
    for (text, key, message) in [
        (
            format!("{HYBRID}[routing]\non_remote_down = \"spill\"\n"),
            "routing.on_remote_down",
            format!("on_remote_down `spill` {later}; available: fail, local"),
        ),
        (
            format!("{channel}on_failure = \"park\"\n"),
            "channels.a.on_failure",
            format!("on_failure `park` {later}; available: block"),
        ),
        (
            format!("{channel}on_failure = \"skip\"\n"),
            "channels.a.on_failure",
            format!("on_failure `skip` {later}; available: block"),
        ),
        (
            format!("{channel}retry.delay_ms = 100\n"),
            "channels.a.retry.delay_ms",
            format!("delayed redelivery {later}; every retry is immediate: remove `delay_ms`"),
        ),
        (
            format!("{channel}retry.immediate = 2\n"),
            "channels.a.retry.immediate",
            format!("delayed redelivery {later}; every retry is immediate: remove `immediate`"),
        ),
        (
            format!("{channel}default_consumer = \"fallback\"\n"),
            "channels.a.default_consumer",
            format!(
                "it {later}: give the group's consumer a handler of `Event`, which takes every \
                 type that has no handler of its own"
            ),
        ),
        (
            "[store]\ntype = \"memory\"\nguarantee = \"outbox\"\n".to_owned(),
            "store.guarantee",
            format!("the guarantee `outbox` {later}: remove the key"),
        ),
    ] {
        let found = problem(&text);
        assert!(found.ends_with(&format!(": {key}: {message}")), "{found}");
    }
}

#[test]
fn a_key_of_another_type_is_refused_with_the_reason() {
    for (text, message) in [
        (
            "[broker]\ntype = \"memory\"\nurl = \"redis://h\"\n",
            "3:7: broker.url: does not belong to `type = \"memory\"`, which has no server",
        ),
        (
            "[broker]\ntype = \"memory\"\n[broker.remote]\ntype = \"memory\"\n",
            "3:1: broker.remote: belongs to `type = \"hybrid\"`",
        ),
        (
            "[broker]\ntype = \"hybrid\"\nhistory = 1\nremote.type = \"memory\"\n",
            "3:11: broker.history: belongs to one of the two brokers: write it in \
             `[broker.local]` or `[broker.remote]`",
        ),
        (
            "[broker]\ntype = \"hybrid\"\nurl = \"redis://h\"\nremote.type = \"memory\"\n",
            "3:7: broker.url: belongs to one of the two brokers: write it in `[broker.local]` or \
             `[broker.remote]`",
        ),
        (
            "[broker]\ntype = \"redis\"\nurl = \"redis://h\"\nbuffer_size = 5\n",
            "4:15: broker.buffer_size: belongs to `type = \"memory\"`",
        ),
        (
            "[broker]\ntype = \"hybrid\"\nlocal.type = \"redis\"\nremote.type = \"memory\"\n",
            "3:14: broker.local.type: the local broker of a hybrid lives in this process: write \
             `memory`",
        ),
        (
            "[store]\ntype = \"none\"\nttl_seconds = 5\n",
            "3:15: store.ttl_seconds: does not belong to `type = \"none\"`, which keeps nothing",
        ),
        (
            "[store]\ntype = \"memory\"\nurl = \"sqlite:x\"\n",
            "3:7: store.url: does not belong to `type = \"memory\"`, which has no server",
        ),
    ] {
        assert_eq!(problem(text), format!("app.toml:{message}"));
    }
}

#[test]
fn a_section_says_its_type() {
    for (text, start) in [
        ("[broker]\nhistory = 1\n", "1:2: broker.type: say what takes the events: "),
        ("[broker]\ntype = \"hybrid\"\n", "1:2: broker.remote: a hybrid needs `[broker.remote]`"),
        (
            "[broker]\ntype = \"hybrid\"\n[broker.remote]\n",
            "3:9: broker.remote.type: say what the remote broker is",
        ),
        ("[store]\nttl_seconds = 5\n", "1:2: store.type: say which store: "),
        ("[store]\ntype = \"sqlite\"\n", "1:2: store.url: a sqlite store needs its file: "),
    ] {
        let found = problem(text);
        assert!(found.starts_with(&format!("app.toml:{start}")), "{found}");
    }
}

#[test]
fn a_hybrid_within_a_hybrid_is_refused() {
    let text = "[broker]\ntype = \"hybrid\"\n[broker.remote]\ntype = \"hybrid\"\n";
    let expected = "app.toml:4:8: broker.remote.type: a hybrid within a hybrid is not possible";
    assert_eq!(problem(text), expected);
}

#[test]
fn routes_without_a_hybrid_are_refused() {
    let message = "there is nothing to route: routes need `broker.type = \"hybrid\"`";
    for broker in ["", "broker = { type = \"memory\" }\n"] {
        let found = problem(&format!("{broker}[routing]\ndefault = \"local\"\n"));
        assert!(found.ends_with(&format!(": routing: {message}")), "{found}");
    }
}
