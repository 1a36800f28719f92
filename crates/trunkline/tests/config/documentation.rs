//! `docs/configuration.md` says what is true.

use super::config;

const PAGE: &str = include_str!("../../../../docs/configuration.md");

#[test]
fn every_configuration_on_the_page_is_one() {
    let blocks: Vec<_> = PAGE.split("```toml\n").skip(1).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        let (text, _) = block.split_once("```").expect("a block has an end");
        config(text);
    }
}

#[test]
fn every_key_is_on_the_page() {
    let brokers = [
        "type = \"memory\"",
        "type = \"redis\"\nurl = \"redis://h\"",
        "type = \"kafka\"\nurl = \"kafka://h\"",
        "type = \"rabbitmq\"\nurl = \"amqp://h\"",
        "type = \"hybrid\"\nremote.type = \"memory\"",
    ];
    for broker in brokers {
        let text = format!(
            "[broker]\n{broker}\n[store]\ntype = \"memory\"\n[channels.a]\ntopics = [\"a\"]\n"
        );
        for line in config(&text).describe().lines() {
            let line = line.strip_prefix("# ").unwrap_or(line);
            let Some((key, _)) = line.split_once([' ', ':']) else { continue };
            assert!(PAGE.contains(&format!("`{key}`")), "`{key}` of {broker} is not on the page");
        }
    }
}
