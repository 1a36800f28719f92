//! What every broker with a server is told.

use std::time::Duration;

use trunkline_core::cloudevents::ContentMode;

use super::describe::Page;
use super::read::{Choice, Section};
use super::url::Url;

/// What holds where nobody says: the broker knows, and its documentation says.
pub(super) const DEFAULT: &str = "the broker's default";

/// What every broker with a server is told.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerConfig {
    /// Where the server is, with its credentials.
    pub url: Url,
    /// What every physical name begins with; absent, nothing, so that other programs find a topic
    /// under its own name.
    pub prefix: Option<String>,
    /// How long the start waits for the server; absent, as long as the broker has it.
    pub connect_timeout: Option<Duration>,
    /// How events are written; both modes are read.
    pub mode: ContentMode,
}

const MODES: [Choice<ContentMode>; 2] =
    [("binary", Some(ContentMode::Binary)), ("structured", Some(ContentMode::Structured))];

impl ServerConfig {
    /// The server at `url`, without a prefix.
    #[must_use]
    pub fn new(url: Url) -> Self {
        Self { url, prefix: None, connect_timeout: None, mode: ContentMode::Binary }
    }

    /// The common keys.
    pub(super) fn read(section: &mut Section<'_>, schemes: &[&'static str], example: &str) -> Self {
        let url = section.get("url");
        if url.is_none() {
            let message = format!("the broker needs its server: `url = \"{example}\"`");
            section.missing("url", &message);
        }
        let url = url.and_then(|item| item.url(schemes));
        let prefix = section.text("prefix").map(str::to_owned);
        let connect_timeout = section.millis("connect_timeout_ms");
        let mode = section.choice("mode", "mode", &MODES).unwrap_or_default();
        Self { url: url.unwrap_or_else(Url::missing), prefix, connect_timeout, mode }
    }

    pub(super) fn describe(&self, page: &mut Page) {
        page.set("url", self.url.to_string());
        page.set_or_note("prefix", self.prefix.clone(), "none");
        page.millis_or_note("connect_timeout_ms", self.connect_timeout, DEFAULT);
        page.choice("mode", self.mode, &MODES);
    }
}
