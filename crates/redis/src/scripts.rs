//! What has to happen on the server at once: the scripts, and the commands that call them.

use std::sync::LazyLock;

use redis::{Cmd, Pipeline, Script};

macro_rules! scripts {
    ($($(#[$doc:meta])* $name:ident = $file:literal;)+) => {
        /// A script by name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Lua {
            $($(#[$doc])* $name,)+
        }

        impl Lua {
            const ALL: &'static [(Lua, &'static str)] =
                &[$((Lua::$name, include_str!(concat!("lua/", $file, ".lua"))),)+];
        }
    };
}

scripts! {
    Claim = "claim";
    Note = "note";
    Suspect = "suspect";
    Beat = "beat";
    Retry = "retry";
    Delay = "delay";
    Move = "move";
    Due = "due";
    Cancel = "cancel";
    Reject = "reject";
    Redrive = "redrive";
    Acquire = "acquire";
    Renew = "renew";
    Renumber = "renumber";
    Release = "release";
    Presence = "presence";
    Topic = "topic";
    Group = "group";
    Trim = "trim";
    Forget = "forget";
}

static LOADED: LazyLock<Vec<Script>> =
    LazyLock::new(|| Lua::ALL.iter().map(|(_, text)| Script::new(text)).collect());

impl Lua {
    /// A call with `keys` of the arguments being keys; keys first, then the others.
    pub(crate) fn call(self, keys: usize) -> Cmd {
        let mut call = redis::cmd("EVALSHA");
        call.arg(LOADED[self as usize].get_hash()).arg(keys);
        call
    }
}

/// Loads every script; a server forgets them when it restarts.
pub(crate) fn load_all() -> Pipeline {
    let mut pipe = Pipeline::with_capacity(Lua::ALL.len());
    for (_, text) in Lua::ALL {
        pipe.cmd("SCRIPT").arg("LOAD").arg(*text);
    }
    pipe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_stands_at_its_own_place() {
        for (at, (script, text)) in Lua::ALL.iter().enumerate() {
            assert_eq!(*script as usize, at);
            assert!(text.starts_with("-- "), "{script:?} does not say what it does");
        }
    }
}
